"""What policies measure at each step: distance, forecast error, motion. Each setting has its own panel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opensora_adacache.benchmark.description import BASELINE
from opensora_adacache.benchmark.report.drawing import (
    ALL_COLOUR,
    MOTION_COLOURS,
    add_legend,
    make_logarithmic,
    style_axes,
    to_svg,
)
from opensora_adacache.benchmark.report.plots.plot import Plot, by_motion, make_grid
from opensora_adacache.benchmark.results import ResultRow

# Policies whose distance is that of the probe's residual, and that measure motion too.
PROBING_POLICIES = (BASELINE, "adacache", "adacache-forecast")
# Policies whose distance is the relative error of the forecast.
FORECASTING_POLICIES = ("forecastcache",)


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
        "keeps its last measured value until it computes again. Lines are medians over the videos of a motion class; "
        "bands span the first to the third quartile.",
    )


def forecast_error_over_steps(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw the relative forecast error over the steps by motion class."""
    forecast = _of_policies(by_setting, FORECASTING_POLICIES)
    return _over_steps(
        forecast,
        "distances",
        "relative error of the forecast",
        True,
        "Error of the forecast over the steps",
        "What ForecastCache measures at its computed steps: the relative error of the forecast of the stack's residual "
        "for that step, over the interval before it. Medians and quartiles as above.",
    )


def motion_over_steps(by_setting: dict[str, list[ResultRow]]) -> Plot | None:
    """Draw the motion factor over the steps by motion class, for settings that use it."""
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
        "The factor by which motion regularization multiplies the distance. Factors above 1 lead to more computed "
        "steps; 1 means no effect. Medians and quartiles as above.",
    )


def _of_policies(by_setting: dict[str, list[ResultRow]], policies: Sequence[str]) -> dict[str, list[ResultRow]]:
    return {name: rows for name, rows in by_setting.items() if rows[0].policy in policies}


def _over_steps(
    by_setting: dict[str, list[ResultRow]], name: str, label: str, logarithmic: bool, title: str, caption: str
) -> Plot | None:
    """Draw medians and quartiles of a quantity over the steps, with a panel for each setting that has any values."""
    shown = [rows for rows in by_setting.values() if any(v is not None for row in rows for v in getattr(row, name))]
    if not shown:
        return None
    figure, panels, num_columns = make_grid(len(shown), share=True)
    for number, (axes, rows) in enumerate(zip(panels, shown, strict=True)):
        lowest = number + num_columns >= len(shown)
        style_axes(axes, "step" if lowest else "", "" if number % num_columns else label, rows[0].title)
        axes.tick_params(labelbottom=lowest)
        for motion, group in by_motion(rows):
            steps, low, middle, high = _quartiles([_hold(getattr(row, name)) for row in group])
            colour = MOTION_COLOURS.get(motion, ALL_COLOUR)
            axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0, step="post")
            axes.plot(steps, middle, color=colour, linewidth=1.3, drawstyle="steps-post", label=motion)
    if logarithmic:
        make_logarithmic(panels[0], "y")
    add_legend(figure, panels, "motion class")
    return Plot(title, caption, to_svg(figure))


def _hold(values: Sequence[float | None]) -> list[float | None]:
    """Repeat each measured value until the next one.

    >>> _hold([None, 0.5, None, 0.25])
    [None, 0.5, 0.5, 0.25]
    """
    held: list[float | None] = []
    for value in values:
        held.append(value if value is not None or not held else held[-1])
    return held


def _quartiles(lists: list[Sequence[float | None]]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Return the steps (from 1) at which any list has a value, and the quartiles over the lists that have one."""
    steps, quartiles = [], []
    for step, values in enumerate(zip(*lists, strict=True), start=1):
        measured = [value for value in values if value is not None]
        if measured:
            steps.append(step)
            quartiles.append(np.quantile(measured, (0.25, 0.5, 0.75)))
    low, middle, high = np.array(quartiles).reshape(-1, 3).T.tolist()
    return steps, low, middle, high
