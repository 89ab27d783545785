"""The tables of a benchmark: the columns of the paper's Table 1 with its rows beside ours, then our own columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opensora_adacache.benchmark.description import ComparisonRecord, PaperRow
from opensora_adacache.benchmark.results import MOTIONS
from opensora_adacache.benchmark.summary import SettingSummary
from opensora_adacache.errors.shown import counted
from opensora_adacache.metrics.bootstrap import Interval
from opensora_adacache.scenes.words import ATTRIBUTES

MEASURED, ORACLE, QUOTED = "measured", "oracle", "quoted"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: name of the column in CSV.
        title: heading with the unit.
        form: format of the figures. "" gives two decimals from 100 on and four significant digits below.
        measured: function that returns the figure of a measured setting.
        quoted: name of the field in the paper's rows.
    """

    key: str
    title: str
    form: str
    measured: Callable[[SettingSummary], Interval | float | None]
    quoted: str | None = None


@dataclass(frozen=True)
class Cell:
    """A figure: its text, and the value to sort by (None for an empty cell)."""

    text: str = ""
    value: float | None = None
    interval: Interval | None = None
    interval_text: str = ""

    @property
    def full_text(self) -> str:
        """The figure with its interval."""
        return f"{self.text} {self.interval_text}".rstrip()


@dataclass(frozen=True)
class Line:
    """A line of a table: a method, the source of its figures, and the figures.

    Attributes:
        name: name of the setting or of the paper's row.
        title: name to show.
        source: `MEASURED`, `ORACLE` or `QUOTED`.
        cells: one cell per column.
    """

    name: str
    title: str
    source: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        key: short name.
        title: title above the table.
        columns: columns of figures.
        groups: lines of a setting and the rows quoted for it, which sorting keeps together.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    groups: tuple[tuple[Line, ...], ...]

    @property
    def lines(self) -> list[Line]:
        """All lines in order."""
        return [line for group in self.groups for line in group]


def _motion(motion: str, name: str) -> Callable[[SettingSummary], Interval | float | None]:
    return lambda row: getattr(row.by_motion[motion], name) if motion in row.by_motion else None


def _check(name: str) -> Callable[[SettingSummary], float | None]:
    return lambda row: 100 * row.checks[name] if name in row.checks else None


PAPER_COLUMNS = (
    Column("vbench", "VBench (%)", ".2f", lambda row: None, "vbench"),
    Column("psnr", "PSNR (dB)", ".2f", lambda row: row.psnr, "psnr"),
    Column("lpips", "LPIPS", ".4f", lambda row: row.lpips, "lpips"),
    Column("ssim", "SSIM", ".4f", lambda row: row.ssim, "ssim"),
    Column("tflops", "FLOPs (T)", "", lambda row: row.tflops, "tflops"),
    Column("latency_s", "Latency (s)", ".2f", lambda row: row.latency_s, "latency_s"),
    Column("speedup", "Speedup", ".2f", lambda row: row.speedup, "speedup"),
)
COST_COLUMNS = (
    Column("num_videos", "Videos", ".0f", lambda row: row.num_videos),
    Column("computed_steps", "Computed steps", ".2f", lambda row: row.computed_steps),
    Column("num_steps", "Steps", ".0f", lambda row: row.num_steps),
    Column("flop_speedup", "FLOP speedup", ".2f", lambda row: row.flop_speedup),
    Column("efficiency", "Efficiency", ".3f", lambda row: row.efficiency),
    Column("loop_s", "Loop (s)", ".3f", lambda row: row.loop_s),
    Column("cache_mb", "Cache (MB)", ".3g", lambda row: row.cache_mb),
    Column("peak_memory_mb", "Peak memory (MB)", ".0f", lambda row: row.peak_memory_mb),
    Column("psnr_mp4", "PSNR of mp4 (dB)", ".2f", lambda row: row.psnr_mp4),
    Column("lpips_mp4", "LPIPS of mp4", ".4f", lambda row: row.lpips_mp4),
    Column("ssim_mp4", "SSIM of mp4", ".4f", lambda row: row.ssim_mp4),
)
CONTENT_COLUMNS = (
    *(Column(name, f"{name.capitalize()} (%)", ".1f", _check(name)) for name in ATTRIBUTES),
    *(Column(f"steps_{m}", f"Steps, {m}", ".2f", _motion(m, "computed_steps")) for m in MOTIONS),
    *(Column(f"flicker_{m}", f"Flicker, {m}", ".3g", _motion(m, "flicker")) for m in MOTIONS),
    *(Column(f"motion_error_{m}", f"Motion error, {m}", ".3g", _motion(m, "motion_error")) for m in MOTIONS),
)


def build_tables(summaries: Sequence[SettingSummary], comparison: ComparisonRecord) -> list[Table]:
    """Return the tables: the paper's columns, the costs, and what the videos show if it was measured.

    A quoted row follows the setting that names it. Rows that no setting names come last.
    """
    quoted = {row.method: row for row in comparison.paper_rows}
    named = {summary.setting.paper for summary in summaries}
    groups = []
    for summary in summaries:
        paper = quoted.get(summary.setting.paper or "")
        groups.append((_measured_line(summary, PAPER_COLUMNS), *([_quoted_line(paper)] if paper else [])))
    groups += [(_quoted_line(row),) for row in comparison.paper_rows if row.method not in named]
    title = f"Quality and speed, beside {comparison.paper}" if comparison.paper else "Quality and speed"
    tables = [Table("quality", title, PAPER_COLUMNS, tuple(groups))]
    for key, title, columns in (
        ("cost", "Steps, memory, and quality of the decoded files", COST_COLUMNS),
        ("content", "What the videos show, and motion classes", CONTENT_COLUMNS),
    ):
        used = tuple(column for column in columns if any(column.measured(s) is not None for s in summaries))
        if used:
            tables.append(Table(key, title, used, tuple((_measured_line(s, used),) for s in summaries)))
    return tables


def notes(summaries: Sequence[SettingSummary], comparison: ComparisonRecord) -> list[str]:
    """Return notes on where the figures of the tables come from and what they mean."""
    lines = [
        f"Rows marked {MEASURED} (or {ORACLE}) were measured for this table: {comparison.machine}, {comparison.date}, "
        f"torch {comparison.torch}, {counted(comparison.num_prompts, 'prompt')} × "
        f"{counted(comparison.num_seeds, 'seed')}, by the command “{comparison.command}”."
    ]
    if comparison.paper_rows:
        lines.append(
            f"Rows marked {QUOTED} are copied from {comparison.paper_source.rstrip('.')}. They come from another "
            "machine, other prompts and, unless the config is the published one, another model. Their speedup is the "
            "ratio of latencies, and their quality that of decoded files (“of mp4”). None was measured here."
        )
    if any(summary.setting.oracle for summary in summaries):
        lines.append(
            f"Rows marked {ORACLE} are schedules planned with knowledge that no policy has while it runs. They show "
            "how much a better policy could gain."
        )
    lines.append(
        "PSNR, LPIPS and SSIM compare each video with the baseline video of the same prompt and seed. Figures in "
        "brackets are bootstrap 95 % intervals over prompts. Columns without “of mp4” are from raw frames. Latency "
        "(whole run) and loop (denoising) are medians of the seconds per video. Speedup is the baseline's loop seconds "
        "divided by the setting's, summed over the same videos. FLOP speedup is the same ratio for FLOPs, and "
        "efficiency is the speedup divided by the FLOP speedup. Empty VBench cells were not measured."
    )
    if comparison.lpips_missing:
        lines.append(f"LPIPS is empty: {comparison.lpips_missing}.")
    expected = comparison.num_prompts * comparison.num_seeds
    unfinished = [s.setting.title for s in summaries if s.num_videos < expected]
    if unfinished:
        lines.append(f"Unfinished, with fewer than {expected} videos: {'; '.join(unfinished)}.")
    return lines


def _measured_line(summary: SettingSummary, columns: Sequence[Column]) -> Line:
    source = ORACLE if summary.setting.oracle else MEASURED
    cells = tuple(_cell(column.measured(summary), column.form) for column in columns)
    return Line(summary.setting.name, summary.setting.title, source, cells)


def _quoted_line(row: PaperRow) -> Line:
    figures = (getattr(row, column.quoted) if column.quoted else None for column in PAPER_COLUMNS)
    cells = (_cell(figure, column.form) for figure, column in zip(figures, PAPER_COLUMNS, strict=True))
    return Line(row.method, row.method, QUOTED, tuple(cells))


def _cell(figure: Interval | float | None, form: str) -> Cell:
    if figure is None:
        return Cell()
    if isinstance(figure, Interval):
        ends = (figure.low, figure.high)
        # A figure that all videos share needs no interval.
        single = None in ends or figure.low == figure.high
        text = "" if single else "[" + ", ".join(_format(end, form) for end in ends if end is not None) + "]"
        return Cell(_format(figure.mean, form), figure.mean, figure, text)
    return Cell(_format(figure, form), float(figure))


def _format(figure: float, form: str) -> str:
    return f"{figure:{form or ('.2f' if figure >= 100 else '.4g')}}"
