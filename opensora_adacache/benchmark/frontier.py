"""Our policies beside the published ones at each speedup, paired by video, from the rows of benchmarks.

Settings must be named POLICY-SPEEDUPx. Each is held to its budget of computed steps (`budgets`). Settings named
forecastcache-K, which compute K steps, are compared with the setting adacache-fast.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from opensora_adacache.benchmark.budgets import Held, by_setting, hold
from opensora_adacache.benchmark.description import BASELINE, DESCRIPTION, ComparisonRecord, read_comparison
from opensora_adacache.benchmark.results import RESULTS, read_results
from opensora_adacache.benchmark.table_files import markdown_table
from opensora_adacache.errors.shown import counted
from opensora_adacache.metrics.bootstrap import Interval, bootstrap_interval
from opensora_adacache.metrics.simultaneous import Sample, simultaneous_intervals

FORECAST = "forecastcache"
OURS = (FORECAST, "adacache-forecast")
EQUAL_STEPS = 0.5
"""Largest distance from the budget, in steps, of a policy that is compared at equal cost."""
CHAOTIC = 25.0
"""PSNR in dB below which a video has turned into another one."""


@dataclass(frozen=True)
class Cell:
    """The policies at one number of steps and one speedup.

    Attributes:
        num_steps: denoising steps.
        speedup: target speedup.
        policies: policy → its setting at the budget.
        over: policy → ForecastCache's mean paired difference from it in dB, with an interval that holds for all
            policies of all cells at once.
    """

    num_steps: int
    speedup: float
    policies: dict[str, Held]
    over: dict[str, Interval]

    @property
    def budget(self) -> int:
        """The steps that policies compute."""
        return round(self.num_steps / self.speedup)

    @property
    def best_other(self) -> str | None:
        """The published policy at equal cost that ForecastCache gains least over."""
        others = [name for name in self.over if name not in OURS and self.is_at_budget(name)]
        return min(others, key=lambda name: self.over[name].mean, default=None)

    def is_at_budget(self, policy: str) -> bool:
        """Return whether a policy computes as many steps as the budget allows, within `EQUAL_STEPS`."""
        return abs(mean(self.policies[policy], "steps") - self.budget) <= EQUAL_STEPS


@dataclass(frozen=True)
class Frontier:
    """The rows of one benchmark, reduced to the videos that all of its settings have.

    Attributes:
        record: what the benchmark is.
        num_steps: denoising steps.
        keys: prompt number and seed of these videos.
        held: setting → the setting at its budget.
        missing: settings that have too few videos to be compared.
    """

    record: ComparisonRecord
    num_steps: int
    keys: set[tuple[int, int]]
    held: dict[str, Held]
    missing: list[str]

    @property
    def title(self) -> str:
        """The heading: how many videos, and whether the benchmark is unfinished."""
        prompts, seeds = len({index for index, _ in self.keys}), self.record.num_seeds
        line = f"{counted(self.num_steps, 'step')}, {counted(prompts, 'prompt')} × {counted(seeds, 'seed')}"
        planned = self.record.num_prompts * seeds
        return line if len(self.keys) == planned else f"{line}: unfinished, {len(self.keys)} of {planned} videos"


def read_frontier(folder: Path) -> Frontier:
    """Read a benchmark of policies at speedups; see `read_held`.

    Raises:
        OSError: the results cannot be read.
        ValueError: no setting is named POLICY-SPEEDUPx.
    """
    frontier = read_held(folder)
    if not any(_speedup(name) for name in frontier.held):
        raise ValueError(f"'{folder}' has no settings named POLICY-SPEEDUPx; run a config of configs/scenes/frontier")
    return frontier


def read_held(folder: Path) -> Frontier:
    """Read a benchmark, with all settings at their budgets.

    A setting with less than half of the videos of the others is missing; of the rest, the videos count that all have.

    Raises:
        OSError: the results cannot be read.
        ValueError: there is no video that several settings have.
    """
    record, made = read_comparison(folder / DESCRIPTION), by_setting(read_results(folder / RESULTS))
    most = max(map(len, made.values()), default=0)
    named = [one for one in record.settings if one.held_for is None]
    used = [one for one in named if 2 * len(made[one.name]) > most]
    keys = set.intersection(*(set(made[one.name]) for one in used)) if used else set()
    if not keys:
        raise ValueError(f"'{folder}' has no video of all settings yet; let opensora-adacache compare finish a batch")
    whole = [one for one in record.settings if keys <= made[one.name].keys()]
    videos = {one.name: {key: made[one.name][key] for key in keys} for one in whole}
    held = {one.name: hold(one, whole, videos) for one in used if one.name != BASELINE}
    missing = [one.name for one in named if one not in used]
    num_steps = next(row.num_steps for row in videos[used[0].name].values())
    return Frontier(record, num_steps, keys, held, missing)


def find_cells(frontiers: Sequence[Frontier]) -> list[Cell]:
    """Return the cells of some benchmarks, with intervals that hold for all of them at once."""
    cells, samples = [], []
    for frontier in frontiers:
        found: dict[float, dict[str, Held]] = defaultdict(dict)
        for name, held in frontier.held.items():
            if speedup := _speedup(name):
                found[speedup][name.rpartition("-")[0]] = held
        keys = sorted(frontier.keys)
        samples.append(
            Sample(
                [index for index, _ in keys],
                {
                    (speedup, name): [difference(policies[FORECAST], held, key) for key in keys]
                    for speedup, policies in found.items()
                    if FORECAST in policies
                    for name, held in policies.items()
                    if name != FORECAST and any(key not in policies[FORECAST].exact | held.exact for key in keys)
                },
            )
        )
        cells.append(found)
    compared = [sample for sample in samples if sample.differences]
    intervals = iter(simultaneous_intervals(compared))
    result = []
    for frontier, found, sample in zip(frontiers, cells, samples, strict=True):
        over = next(intervals) if sample.differences else {}
        for speedup, policies in sorted(found.items()):
            mine = {name: over[speedup, name] for name in policies if (speedup, name) in over}
            result.append(Cell(frontier.num_steps, speedup, policies, mine))
    return result


def frontier_lines(folders: Sequence[Path]) -> Iterator[str]:
    """Yield the Markdown lines: ForecastCache against the best other policy in each cell, then all policies.

    Raises:
        OSError: the results cannot be read.
        ValueError: a folder has no settings named POLICY-SPEEDUPx.
    """
    frontiers = [read_frontier(folder) for folder in folders]
    cells = find_cells(frontiers)
    yield from _explanation(cells)
    yield from markdown_table(_SUMMARY_COLUMNS, [_summary_line(cell) for cell in cells if cell.over])
    yield ""
    for frontier in frontiers:
        yield f"## {frontier.title}"
        yield ""
        seed = frontier.record.prompt_seed
        yield f"Made by `{frontier.record.command}`" + (f", prompt seed {seed}." if seed is not None else ".")
        if frontier.missing:
            yield f"Not made yet: {', '.join(frontier.missing)}."
        yield ""
        own = [cell for cell in cells if cell.num_steps == frontier.num_steps]
        yield from markdown_table(_COLUMNS, [line for cell in own for line in _policy_lines(cell)])
        yield ""
        yield from _beside_fast(frontier)


def mean(held: Held, name: str, motion: str | None = None) -> float:
    """Return the mean of a figure over the videos that are not exact, in one motion class if given; NaN for none."""
    counted_keys = [key for key in held.keys if key not in held.exact and motion in (None, held.upper[key].motion)]
    return fmean(held.expected(key, name) for key in counted_keys) if counted_keys else math.nan


def difference(one: Held, other: Held, key: tuple[int, int]) -> float:
    """Return by how much the PSNR of a video is above the other's; NaN if it is exact with either."""
    if key in one.exact or key in other.exact:
        return math.nan
    return one.expected(key, "psnr") - other.expected(key, "psnr")


def adherence(held: Held) -> float:
    """Return the fraction of what the prompts ask for that a checker reads in the videos; NaN if nothing was asked."""
    right = asked = 0.0
    for key in held.keys:
        for probability, row in held.parts(key):
            for count in (row.checks or {}).values():
                right, asked = right + probability * count[0], asked + probability * count[1]
    return right / asked if asked else math.nan


def chaotic(held: Held) -> float:
    """Return the fraction of videos whose PSNR is below `CHAOTIC`."""
    return fmean(sum(p for p, row in held.parts(key) if (row.psnr or 0.0) < CHAOTIC) for key in held.keys)


def signed(interval: Interval | None) -> str:
    """Return a difference with its interval.

    >>> signed(Interval(1.0, -0.5, 2.5))
    '+1.00 [-0.50, +2.50]'
    """
    if interval is None:
        return ""
    spread = "" if interval.low is None else f" [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{interval.mean:+.2f}{spread}"


_SUMMARY_COLUMNS = (
    "steps",
    "speedup",
    "computed",
    "ForecastCache, dB",
    "best other policy, dB",
    "difference, dB",
    "above zero",
    f"below {CHAOTIC:g} dB, ours / theirs",
)
_COLUMNS = (
    "speedup",
    "policy",
    "computed steps",
    "held by",
    "PSNR, dB",
    "SSIM",
    "motion error, fast clips",
    "adherence, %",
    "exact videos",
    f"below {CHAOTIC:g} dB, %",
    "ForecastCache over it, dB",
)


def _explanation(cells: Sequence[Cell]) -> Iterator[str]:
    compared = sum(len(cell.over) for cell in cells)
    text = (
        f"All policies are held to the same number of computed steps, within {EQUAL_STEPS:g}; a step that runs some of "
        "the blocks counts by its FLOPs. Where a calibrated threshold computes more or fewer steps on these prompts, "
        "the policy is a draw between two thresholds around the budget, with one probability for all videos, and every "
        "figure of a video is the expectation over the draw (“two thresholds”). Only the numbers of computed steps "
        "chose the thresholds. Policies that could not be held are marked “off budget” and do not compete for the "
        "best. *Exact* videos differ from the uncached ones by rounding alone, as where every step computes; their "
        "PSNR has no finite value, so PSNR, SSIM, motion error, steps and differences leave them out. Videos below 25 "
        "dB have turned into others; they count in all means. Adherence is the fraction of what the prompts ask for "
        "that the checker of the data set reads in the videos.\n\n"
        f"Differences are means over paired videos. Their 95 % intervals hold for all "
        f"{counted(compared, 'difference')} of this page at once (max-t over 10000 resamples of prompts, with the "
        "seeds of a prompt drawn together), so the best other policy of a cell may be picked after the fact."
    )
    yield text
    yield ""


def _summary_line(cell: Cell) -> Sequence[str]:
    ours, best = cell.policies[FORECAST], cell.best_other
    start = (f"{cell.num_steps}", f"{cell.speedup:g}×", f"{cell.budget}", _figure(mean(ours, "psnr"), ".2f"))
    if best is None:
        return (*start, "none at equal steps", "", "", "")
    other, over = cell.policies[best], cell.over[best]
    above = "" if over.low is None else ("yes" if over.low > 0 else "**no**")
    chaos = f"{100 * chaotic(ours):.1f} % / {100 * chaotic(other):.1f} %"
    return (*start, f"{best} {_figure(mean(other, 'psnr'), '.2f')}", signed(over), above, chaos)


def _policy_lines(cell: Cell) -> Iterator[Sequence[str]]:
    quality = {name: mean(held, "psnr") for name, held in cell.policies.items()}
    for name in sorted(cell.policies, key=lambda name: -quality[name] if quality[name] == quality[name] else math.inf):
        held = cell.policies[name]
        by = "two thresholds" if 0 < held.weight < 1 else ""
        yield (
            f"{cell.speedup:g}×",
            f"**{name}**" if name in OURS else name,
            _figure(mean(held, "steps"), ".2f"),
            by if cell.is_at_budget(name) else "off budget",
            _figure(quality[name], ".2f"),
            _figure(mean(held, "ssim"), ".5f"),
            _figure(mean(held, "motion_error", "fast"), ".4f"),
            _figure(100 * adherence(held), ".1f"),
            f"{len(held.exact)}",
            f"{100 * chaotic(held):.1f}",
            signed(cell.over.get(name)) + (" (best other)" if name == cell.best_other else ""),
        )


def _beside_fast(frontier: Frontier) -> Iterator[str]:
    """Yield the table of settings that compute fewer steps than AdaCache's fast codebook."""
    fast = frontier.held.get("adacache-fast")
    ours = [name for name in frontier.held if name.startswith(f"{FORECAST}-") and not _speedup(name)]
    if fast is None or not ours:
        return
    steps, lines = mean(fast, "steps"), []
    for name in ("adacache-fast", *ours):
        held = frontier.held[name]
        taken = mean(held, "steps")
        pairs = [(key[0], difference(held, fast, key)) for key in held.keys]
        known = [(prompt, value) for prompt, value in pairs if not math.isnan(value)]
        over = bootstrap_interval([value for _, value in known], [prompt for prompt, _ in known]) if known else None
        cells = (name, f"{taken:.2f}", f"{taken / steps:.3f}", f"{mean(held, 'psnr'):.2f}", f"{mean(held, 'ssim'):.5f}")
        lines.append((*cells, f"{100 * chaotic(held):.1f}", signed(over) if name in ours else ""))
    yield "Fewer steps than AdaCache's fast codebook takes; each interval by itself:"
    yield ""
    columns = ("setting", "computed steps", "fraction of AdaCache (fast)", "PSNR, dB", "SSIM")
    yield from markdown_table((*columns, f"below {CHAOTIC:g} dB, %", "over AdaCache (fast), dB"), lines)
    yield ""


def _speedup(name: str) -> float | None:
    """Return the speedup in the name of a setting, or None if it has none.

    >>> _speedup("easycache-2.2x"), _speedup("forecastcache-8")
    (2.2, None)
    """
    last = name.rpartition("-")[2]
    try:
        return float(last[:-1]) if last.endswith("x") else None
    except ValueError:
        return None


def _figure(value: float, form: str) -> str:
    return "" if math.isnan(value) else f"{value:{form}}"
