"""The plots of a comparison, each as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from opensora_adacache.benchmark.bootstrap import Interval
from opensora_adacache.benchmark.description import Comparison
from opensora_adacache.benchmark.report.drawing import (
    ALL_COLOUR,
    COMPUTED,
    INK,
    MOTION_COLOURS,
    OUTSIDE,
    OVERHEAD,
    REUSED,
    add_legend,
    make_figure,
    make_logarithmic,
    policy_style,
    style_axes,
    to_svg,
)
from opensora_adacache.benchmark.results import MOTIONS, ResultRow
from opensora_adacache.benchmark.summary import BASELINE, SettingSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Where the distance is that of the probe's residual, and a motion is measured beside it.
PROBING_POLICIES = (BASELINE, "adacache", "adacache-forecast")
# Where it is the relative error of the forecast.
FORECASTING_POLICIES = ("forecastcache",)
HISTOGRAM_BINS = 24
PSNR_CAP = 100.0


@dataclass(frozen=True)
class Plot:
    """A plot and what it shows, in words."""

    title: str
    caption: str
    svg: str


def draw_plots(rows: Sequence[ResultRow], summaries: Sequence[SettingSummary], comparison: Comparison) -> list[Plot]:
    """Draw all plots that the rows have figures for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    order = [setting.name for setting in comparison.settings]
    by_setting = {name: [row for row in rows if row.setting == name] for name in order}
    by_setting = {name: group for name, group in by_setting.items() if group}
    drawn = (
        quality_against_speed(summaries),
        schedules(by_setting),
        distance_over_steps(by_setting),
        forecast_error_over_steps(by_setting),
        motion_over_steps(by_setting),
        distance_histogram(rows),
        latency_breakdown(by_setting),
    )
    return [plot for plot in drawn if plot is not None]


def quality_against_speed(summaries: Sequence[SettingSummary]) -> Plot | None:
    """Draw PSNR against steps over computed steps, and against the FLOP speedup; a curve for each policy."""
    # A setting that computes everything gives the baseline's videos; its 100 dB would flatten the other curves.
    shown = [s for s in summaries if s.psnr is not None and s.psnr.mean < PSNR_CAP]
    if not shown:
        return None
    figure = make_figure(9.6, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    speeds = (
        ("steps / computed steps", lambda s: s.num_steps / s.computed_steps),
        ("FLOP speedup", lambda s: s.flop_speedup),
    )
    policies = list(dict.fromkeys(s.setting.policy for s in shown))
    for axes, (label, speed) in zip(panels, speeds, strict=True):
        style_axes(axes, f"{label} (×)", "PSNR to the baseline (dB)" if axes is panels[0] else "")
        for policy in policies:
            points = sorted(
                (speed(s), s.psnr.mean, *_reach(s.psnr))
                for s in shown
                if s.setting.policy == policy and s.psnr is not None and speed(s) is not None
            )
            if not points:
                continue
            x, y, below, above = zip(*points, strict=True)
            style = policy_style(policy)
            axes.errorbar(
                x,
                y,
                # A mean may lie outside its interval by rounding.
                yerr=np.clip([below, above], 0, None),
                label=policy,
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                markersize=5.5,
                linewidth=1.4,
                elinewidth=0.8,
                capsize=2,
            )
    add_legend(figure, panels, "policy")
    return Plot(
        "Quality against speed",
        "PSNR to the baseline, raw frames, against how much faster a setting is by its computed steps (left) and by "
        "its FLOPs (right). A point is a setting, a curve a policy; bars are 95 % intervals over prompts. Up and to "
        "the right is better. Settings whose videos equal the baseline's are left out.",
        to_svg(figure),
    )


def schedules(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw for each setting the schedule of each video as a row of a strip, sorted by motion class."""
    cached = {name: rows for name, rows in by_setting.items() if rows[0].policy != BASELINE}
    if not cached:
        return None
    from matplotlib.colors import ListedColormap

    num_columns = min(4, len(cached))
    num_rows = -(-len(cached) // num_columns)
    most = max(map(len, cached.values()))
    figure = make_figure(2.4 * num_columns + 0.6, (0.75 + min(0.09 * most, 1.6)) * num_rows + 0.3)
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True)
    for axes in panels.flat[len(cached) :]:
        axes.set_axis_off()
    for number, (axes, rows) in enumerate(zip(panels.flat, cached.values(), strict=False)):
        rows = sorted(rows, key=lambda row: (_motion_rank(row), row.index, row.seed))
        strip = np.array([[mark == "#" for mark in row.schedule] for row in rows])
        num_steps = strip.shape[1]
        axes.imshow(
            strip,
            # as it is in the file, one pixel for each step: no smoothing at any zoom
            interpolation="none",
            aspect="auto",
            cmap=ListedColormap([REUSED, COMPUTED]),
            vmin=0,
            vmax=1,
            extent=(0.5, num_steps + 0.5, len(rows), 0),
        )
        mean = fmean(row.computed_steps for row in rows)
        axes.set_title(f"{rows[0].title}: {mean:.1f} of {num_steps}", fontsize=8, loc="left")
        _mark_motion_classes(axes, rows)
        axes.tick_params(labelsize=7, length=2)
        # The last panel of each column has no other below it.
        last = number + num_columns >= len(cached)
        axes.tick_params(labelbottom=last)
        if last:
            axes.set_xlabel("step", fontsize=8)
    from matplotlib.patches import Patch

    handles = [Patch(color=COMPUTED, label="computed"), Patch(color=REUSED, label="reused")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return Plot(
        "Schedules",
        "Each row of a strip is one video, each column a denoising step; the number is the mean of computed steps. "
        "Videos are sorted by motion class. A policy that adapts gives videos different rows.",
        to_svg(figure),
    )


def distance_over_steps(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw the distance of the probe's residual over the steps by motion class."""
    probed = _of_policies(by_setting, PROBING_POLICIES)
    return _over_steps(
        probed,
        "distances",
        "distance (relative L1 per step)",
        True,
        "Distance over the steps",
        "What AdaCache measures at its computed steps: the relative change of the probe's residual per step. A video "
        "keeps its last measured value until it computes again. Lines are medians over the videos of a motion class, "
        "bands reach from the first to the third quartile.",
    )


def forecast_error_over_steps(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw the relative error of the forecast over the steps by motion class."""
    forecast = _of_policies(by_setting, FORECASTING_POLICIES)
    return _over_steps(
        forecast,
        "distances",
        "relative error of the forecast",
        True,
        "Error of the forecast over the steps",
        "What ForecastCache measures at its computed steps: by how much the forecast of the stack's residual for that "
        "step was off, over the gap before it. Medians and quartiles as above.",
    )


def motion_over_steps(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw the motion factor over the steps by motion class, for settings where it counts."""
    counts = {
        name: rows
        for name, rows in _of_policies(by_setting, PROBING_POLICIES).items()
        if any(motion not in (None, 1) for row in rows for motion in row.motions)
    }
    return _over_steps(
        counts,
        "motions",
        "motion factor",
        False,
        "Motion over the steps",
        "The factor by which motion regularization multiplies the distance, 1 where it does not count: above 1 more "
        "steps are computed. Medians and quartiles as above.",
    )


def distance_histogram(rows: Sequence[ResultRow]) -> Plot | None:
    """Draw how often each distance occurred, by policy and motion class."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        found = [d for d in row.distances if d]  # equal tensors have no place on a logarithmic axis
        if found:
            values.setdefault(row.policy, {}).setdefault(row.motion or "all", []).extend(found)
    if not values:
        return None
    figure, panels, _ = _grid(len(values))
    for axes, (policy, classes) in zip(panels, values.items(), strict=True):
        everything = [value for group in classes.values() for value in group]
        low, high = min(everything), max(everything)
        bins = np.geomspace(low, high if high > low else 2 * low, HISTOGRAM_BINS + 1)
        style_axes(axes, "distance (logarithmic)", "share of the class's steps (%)", policy)
        for motion in (*MOTIONS, "all"):
            if group := classes.get(motion):
                weights = np.full(len(group), 100 / len(group))
                colour = MOTION_COLOURS.get(motion, ALL_COLOUR)
                axes.hist(
                    group, bins.tolist(), weights=weights, histtype="step", color=colour, linewidth=1.4, label=motion
                )
        make_logarithmic(axes, "x")
    add_legend(figure, panels, "motion class")
    return Plot(
        "Histogram of feature distances",
        "The distance that each policy compares with its thresholds, over all its settings and videos. Policies "
        "measure different things, so only the shapes compare.",
        to_svg(figure),
    )


def latency_breakdown(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw mean seconds per video: computed steps, what else the loop took, and what lies outside the loop."""
    every = [row for rows in by_setting.values() for row in rows]
    base = {row.video_key: row.loop_s / row.num_steps for row in every if row.policy == BASELINE}
    bars = []
    for rows in by_setting.values():
        parts = [_latency_parts(row, base[row.video_key]) for row in rows if row.video_key in base]
        if parts:
            bars.append((rows[0].title, [fmean(part) for part in zip(*parts, strict=True)]))
    if not bars:
        return None
    figure = make_figure(9.2, 0.26 * len(bars) + 1.2)
    axes = figure.subplots()
    style_axes(axes, "seconds per video", "")
    axes.grid(visible=False, axis="y")
    titles = [title for title, _ in bars]
    start = np.zeros(len(bars))
    for label, colour, part in zip(
        ("computed steps", "rest of the loop: reused steps, deciding", "outside the loop"),
        (COMPUTED, OVERHEAD, OUTSIDE),
        range(3),
        strict=True,
    ):
        lengths = np.array([parts[part] for _, parts in bars])
        axes.barh(range(len(bars)), lengths, left=start, color=colour, height=0.7, label=label)
        start += lengths
    for place, total in enumerate(start):
        axes.text(total, place, f" {total:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), titles, fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.margins(x=0.08)
    add_legend(figure, [axes])
    return Plot(
        "Where the time goes",
        "Mean seconds per video. A computed step is charged what a step of the baseline took for the same prompt and"
        " seed, the rest of the denoising loop went into reused steps and into deciding; decoding and everything "
        "else lies outside the loop.",
        to_svg(figure),
    )


def _of_policies(by_setting: dict[str, list[ResultRow]], policies: Sequence[str]) -> dict[str, list[ResultRow]]:
    return {name: rows for name, rows in by_setting.items() if rows[0].policy in policies}


def _over_steps(
    by_setting: dict[str, list[ResultRow]], name: str, label: str, logarithmic: bool, title: str, caption: str
) -> Plot | None:
    """Draw medians and quartiles of a quantity of the steps, a panel for each setting that has it; None: none has."""
    shown = [rows for rows in by_setting.values() if any(v is not None for row in rows for v in getattr(row, name))]
    if not shown:
        return None
    figure, panels, num_columns = _grid(len(shown), share=True)
    for number, (axes, rows) in enumerate(zip(panels, shown, strict=True)):
        lowest = number + num_columns >= len(shown)
        style_axes(axes, "step" if lowest else "", "" if number % num_columns else label, rows[0].title)
        axes.tick_params(labelbottom=lowest)
        for motion, group in _by_motion(rows):
            steps, low, middle, high = _quartiles([_hold(getattr(row, name)) for row in group])
            colour = MOTION_COLOURS.get(motion, ALL_COLOUR)
            axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0, step="post")
            axes.plot(steps, middle, color=colour, linewidth=1.3, drawstyle="steps-post", label=motion)
    if logarithmic:
        make_logarithmic(panels[0], "y")
    add_legend(figure, panels, "motion class")
    return Plot(title, caption, to_svg(figure))


def _grid(num_panels: int, share: bool = False) -> tuple[Figure, list[Axes], int]:
    """Return a figure with that many panels, and how many stand in a row."""
    columns = 2 if num_panels == 4 else min(3, num_panels)
    rows = -(-num_panels // columns)
    figure = make_figure(3.0 * columns + 1.0, 2.6 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).flat)
    for axes in panels[num_panels:]:
        axes.set_axis_off()
    return figure, panels[:num_panels], columns


def _latency_parts(row: ResultRow, seconds_per_computed_step: float) -> tuple[float, float, float]:
    computed = min(row.computed_steps * seconds_per_computed_step, row.loop_s)
    return computed, row.loop_s - computed, max(row.latency_s - row.loop_s, 0.0)


def _motion_rank(row: ResultRow) -> int:
    return MOTIONS.index(row.motion) if row.motion else len(MOTIONS)


def _by_motion(rows: list[ResultRow]) -> list[tuple[str, list[ResultRow]]]:
    rows = sorted(rows, key=_motion_rank)
    return [(motion, list(group)) for motion, group in groupby(rows, key=lambda row: row.motion or "all")]


def _mark_motion_classes(axes: Axes, rows: list[ResultRow]) -> None:
    """Name the motion classes beside the rows of a strip and draw a line between them."""
    ticks, names, start = [], [], 0
    for motion, group in groupby(rows, key=lambda row: row.motion):
        size = len(list(group))
        if start:
            axes.axhline(start, color=INK, linewidth=0.8)
        if motion:
            ticks.append(start + size / 2)
            names.append(motion)
        start += size
    axes.set_yticks(ticks, names)


def _hold(values: Sequence[float | None]) -> list[float | None]:
    """Let each measured value last until the next one.

    >>> _hold([None, 0.5, None, 0.25])
    [None, 0.5, 0.5, 0.25]
    """
    held: list[float | None] = []
    for value in values:
        held.append(value if value is not None or not held else held[-1])
    return held


def _quartiles(lists: list[Sequence[float | None]]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Return the steps where any list has a value, counted from 1, and the quartiles over the lists that do."""
    steps, quartiles = [], []
    for step, values in enumerate(zip(*lists, strict=True), start=1):
        measured = [value for value in values if value is not None]
        if measured:
            steps.append(step)
            quartiles.append(np.quantile(measured, (0.25, 0.5, 0.75)))
    low, middle, high = np.array(quartiles).reshape(-1, 3).T.tolist()
    return steps, low, middle, high


def _reach(interval: Interval) -> tuple[float, float]:
    """Return how far an interval reaches below and above its mean; 0 where a single prompt gives none."""
    low, high = (interval.mean if end is None else end for end in (interval.low, interval.high))
    return interval.mean - low, high - interval.mean
