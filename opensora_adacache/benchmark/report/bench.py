"""Write the tables and the page of a benchmark from its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, zip_longest
from pathlib import Path

from opensora_adacache.benchmark.description import BASELINE, DESCRIPTION, ComparisonRecord, read_comparison
from opensora_adacache.benchmark.report.plots import Plot, draw_plots
from opensora_adacache.benchmark.report.template import data_uri, render
from opensora_adacache.benchmark.results import MOTIONS, RESULTS, ResultRow, read_results
from opensora_adacache.benchmark.summary import summarize
from opensora_adacache.benchmark.table import build_tables, notes
from opensora_adacache.benchmark.table_files import write_csv, write_latex, write_markdown
from opensora_adacache.media.files import write_file

PAGE_BYTES = 5_000_000


@dataclass(frozen=True)
class ShownVideo:
    """A video on the page.

    Attributes:
        row: figures of the video.
        source: the file as a data URI.
        speedup: loop seconds of the baseline video with the same prompt and seed, divided by those of this one.
    """

    row: ResultRow
    source: str
    speedup: float | None

    @property
    def schedule(self) -> list[bool]:
        """Whether each step was computed."""
        return [mark == "#" for mark in self.row.schedule]


def write_report(folder: Path, num_videos: int | None = None, title: str | None = None) -> None:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and the self-contained ``index.html`` of a benchmark.

    Args:
        folder: folder with ``results.jsonl``, ``comparison.json`` and the videos.
        num_videos: number of prompts whose videos the page embeds. None embeds as many as fit into `PAGE_BYTES`.
        title: title to use instead of the one in ``comparison.json``.

    Raises:
        OSError: the results or a video to embed are missing, or a file cannot be written.
        ValueError: ``results.jsonl`` or ``comparison.json`` was not written by a benchmark.
        ImportError: matplotlib is not installed. The tables are written nevertheless.
    """
    rows = read_results(folder / RESULTS)
    comparison = read_comparison(folder / DESCRIPTION)
    if title is not None:
        comparison = replace(comparison, title=title)
    summaries = summarize(rows, comparison)
    tables, facts = build_tables(summaries, comparison), notes(summaries, comparison)
    write_markdown(folder / "table.md", tables, comparison, facts)
    write_csv(folder / "table.csv", tables, comparison)
    write_latex(folder / "table.tex", tables, comparison, facts)

    plots = draw_plots(rows, summaries, comparison)
    write_file(folder / "index.html", build_page(folder, rows, comparison, plots, num_videos))


def build_page(
    folder: Path,
    rows: Sequence[ResultRow],
    comparison: ComparisonRecord,
    plots: Sequence[Plot],
    num_videos: int | None = None,
) -> bytes:
    """Return the self-contained page; see `write_report`."""
    summaries = summarize(rows, comparison)
    values = {
        "comparison": comparison,
        "settings": [summary.setting for summary in summaries],
        "tables": build_tables(summaries, comparison),
        "notes": notes(summaries, comparison),
        "baseline": BASELINE,
        "plots": [(plot, data_uri("image/svg+xml", plot.svg.encode())) for plot in plots],
        "num_all": len({row.video_key for row in rows}),
        "motions": [motion for motion in MOTIONS if any(row.motion == motion for row in rows)],
    }

    def page(num_prompts: int) -> bytes:
        prompts = _shown_prompts(folder, rows, comparison, num_prompts)
        return render("bench.html.jinja", **values, prompts=prompts).encode()

    if num_videos is not None:
        return page(num_videos)
    html = page(0)
    # Captions and strips of the videos take space too, so the last videos may have to be dropped again.
    for count in range(_num_that_fit(folder, rows, PAGE_BYTES - len(html)), 0, -1):
        if len(with_videos := page(count)) < PAGE_BYTES:
            return with_videos
    return html


def spread_prompts(rows: Sequence[ResultRow]) -> list[tuple[int, int]]:
    """Return the prompts and seeds of the videos, ordered so that the first few cover every motion class."""
    keys: dict[str | None, dict[tuple[int, int], None]] = {}
    for row in sorted(rows, key=lambda row: row.video_key):
        keys.setdefault(row.motion, {}).setdefault(row.video_key)
    return [key for key in chain.from_iterable(zip_longest(*keys.values())) if key is not None]


def _num_that_fit(folder: Path, rows: Sequence[ResultRow], num_bytes: int) -> int:
    """Return how many prompts of `spread_prompts` fit, when their videos are embedded, into that many bytes."""
    if any(row.video is None for row in rows):
        return 0
    sizes: dict[tuple[int, int], int] = {}
    for row in rows:
        # base64 encodes three bytes as four characters
        sizes[row.video_key] = sizes.get(row.video_key, 0) + row.video_in(folder).stat().st_size * 4 // 3
    totals = accumulate(sizes[key] for key in spread_prompts(rows))
    return sum(total <= num_bytes for total in totals)


def _shown_prompts(
    folder: Path, rows: Sequence[ResultRow], comparison: ComparisonRecord, num_prompts: int
) -> list[list[ShownVideo]]:
    """Return the videos of the first prompts of `spread_prompts`, ordered by prompt and setting."""
    order = {setting.name: place for place, setting in enumerate(comparison.settings)}
    seconds = {row.video_key: row.loop_s for row in rows if row.policy == BASELINE}
    prompts = []
    for key in sorted(spread_prompts(rows)[:num_prompts]):
        group = sorted((row for row in rows if row.video_key == key), key=lambda row: order[row.setting])
        prompts.append([_shown_video(folder, row, seconds.get(key)) for row in group])
    return prompts


def _shown_video(folder: Path, row: ResultRow, baseline_seconds: float | None) -> ShownVideo:
    speedup = baseline_seconds / row.loop_s if baseline_seconds is not None else None
    return ShownVideo(row, data_uri("video/mp4", row.video_in(folder).read_bytes()), speedup)
