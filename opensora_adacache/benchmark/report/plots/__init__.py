"""The plots of a benchmark as SVG text, one module per kind of plot."""

from __future__ import annotations

from collections.abc import Sequence

from opensora_adacache.benchmark.description import ComparisonRecord
from opensora_adacache.benchmark.report.plots.histogram import distance_histogram
from opensora_adacache.benchmark.report.plots.latency import latency_breakdown
from opensora_adacache.benchmark.report.plots.over_steps import (
    distance_over_steps,
    forecast_error_over_steps,
    motion_over_steps,
)
from opensora_adacache.benchmark.report.plots.plot import Plot
from opensora_adacache.benchmark.report.plots.quality import quality_against_speed
from opensora_adacache.benchmark.report.plots.schedules import schedules
from opensora_adacache.benchmark.results import ResultRow
from opensora_adacache.benchmark.summary import SettingSummary

__all__ = [
    "Plot",
    "distance_histogram",
    "distance_over_steps",
    "draw_plots",
    "forecast_error_over_steps",
    "latency_breakdown",
    "motion_over_steps",
    "quality_against_speed",
    "schedules",
]


def draw_plots(
    rows: Sequence[ResultRow], summaries: Sequence[SettingSummary], comparison: ComparisonRecord
) -> list[Plot]:
    """Draw every plot that the rows have data for.

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
