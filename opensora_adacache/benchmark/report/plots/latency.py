"""How the seconds of a video are spent."""

from __future__ import annotations

from statistics import fmean

import numpy as np

from opensora_adacache.benchmark.description import BASELINE
from opensora_adacache.benchmark.report.drawing import (
    COMPUTED,
    OUTSIDE,
    OVERHEAD,
    add_legend,
    make_figure,
    style_axes,
    to_svg,
)
from opensora_adacache.benchmark.report.plots.plot import Plot
from opensora_adacache.benchmark.results import ResultRow


def latency_breakdown(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw the mean seconds per video: computed steps, the rest of the loop, and everything outside the loop."""
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
        ("computed steps", "rest of the loop: reused steps, decisions", "outside the loop"),
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
        "Mean seconds per video. A computed step counts as long as a step of the baseline took for the same prompt and"
        " seed. The rest of the denoising loop is reused steps and decisions. Decoding and everything else is outside "
        "the loop.",
        to_svg(figure),
    )


def _latency_parts(row: ResultRow, seconds_per_computed_step: float) -> tuple[float, float, float]:
    computed = min(row.computed_steps * seconds_per_computed_step, row.loop_s)
    return computed, row.loop_s - computed, max(row.latency_s - row.loop_s, 0.0)
