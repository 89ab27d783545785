"""Common parts of the plots: a plot with its caption, panels, and rows grouped by motion class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from opensora_adacache.benchmark.report.drawing import make_figure
from opensora_adacache.benchmark.results import MOTIONS, ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A plot with its title and caption."""

    title: str
    caption: str
    svg: str


def make_grid(num_panels: int, share: bool = False) -> tuple[Figure, list[Axes], int]:
    """Return a figure, its panels, and the number of panels per row."""
    columns = 2 if num_panels == 4 else min(3, num_panels)
    rows = -(-num_panels // columns)
    figure = make_figure(3.0 * columns + 1.0, 2.6 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).flat)
    for axes in panels[num_panels:]:
        axes.set_axis_off()
    return figure, panels[:num_panels], columns


def motion_rank(row: ResultRow) -> int:
    return MOTIONS.index(row.motion) if row.motion else len(MOTIONS)


def by_motion(rows: list[ResultRow]) -> list[tuple[str, list[ResultRow]]]:
    rows = sorted(rows, key=motion_rank)
    return [(motion, list(group)) for motion, group in groupby(rows, key=lambda row: row.motion or "all")]
