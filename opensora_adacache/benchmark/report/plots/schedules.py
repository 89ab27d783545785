"""Computed and reused steps: a strip per setting with a row per video."""

from __future__ import annotations

from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from opensora_adacache.benchmark.description import BASELINE
from opensora_adacache.benchmark.report.drawing import COMPUTED, INK, REUSED, make_figure, to_svg
from opensora_adacache.benchmark.report.plots.plot import Plot, motion_rank
from opensora_adacache.benchmark.results import ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def schedules(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw a strip for each setting with the schedule of each video as a row, sorted by motion class."""
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
        rows = sorted(rows, key=lambda row: (motion_rank(row), row.index, row.seed))
        strip = np.array([[mark == "#" for mark in row.schedule] for row in rows])
        num_steps = strip.shape[1]
        axes.imshow(
            strip,
            # one pixel per step, as in the file, without smoothing at any zoom
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
        # The last panel of each column has none below it.
        last = number + num_columns >= len(cached)
        axes.tick_params(labelbottom=last)
        if last:
            axes.set_xlabel("step", fontsize=8)
    from matplotlib.patches import Patch

    handles = [Patch(color=COMPUTED, label="computed"), Patch(color=REUSED, label="reused")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return Plot(
        "Schedules",
        "Each row of a strip is one video and each column a denoising step. The number is the mean of computed steps. "
        "Videos are sorted by motion class. With an adaptive policy, the rows differ between videos.",
        to_svg(figure),
    )


def _mark_motion_classes(axes: Axes, rows: list[ResultRow]) -> None:
    """Label the motion classes beside the rows of a strip and draw a line between them."""
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
