"""How often each distance occurred, by policy and motion class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opensora_adacache.benchmark.report.drawing import (
    ALL_COLOUR,
    MOTION_COLOURS,
    add_legend,
    make_logarithmic,
    style_axes,
    to_svg,
)
from opensora_adacache.benchmark.report.plots.plot import Plot, make_grid
from opensora_adacache.benchmark.results import MOTIONS, ResultRow

HISTOGRAM_BINS = 24


def distance_histogram(rows: Sequence[ResultRow]) -> Plot | None:
    """Draw how often each distance occurred, by policy and motion class."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        found = [d for d in row.distances if d]  # equal tensors have no place on a logarithmic axis
        if found:
            values.setdefault(row.policy, {}).setdefault(row.motion or "all", []).extend(found)
    if not values:
        return None
    figure, panels, _ = make_grid(len(values))
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
