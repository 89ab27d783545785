"""The chart over the strip of steps: distance and motion of each step, as paths of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opensora_adacache.app.views import RunView

WIDTH, HEIGHT = 1000, 100
_MARGIN = 8


@dataclass(frozen=True)
class Curve:
    """A quantity over the steps.

    Attributes:
        name: what it is, also its class in the style.
        line: path through the measured steps.
        dots: path of a dot at each of them.
        latest: the latest value.
        highest: the highest one, which is at the top of the chart.
    """

    name: str
    line: str
    dots: str
    latest: float
    highest: float


def curves(run: RunView) -> list[Curve]:
    """Return the curves of a run: none before anything was measured, and motion only where a policy uses it."""
    found = [draw("distance", run.distances, run.num_steps)]
    if any(value not in (None, 1) for value in run.motions):
        found.append(draw("motion", run.motions, run.num_steps))
    return [curve for curve in found if curve is not None]


def draw(name: str, values: Sequence[float | None], num_steps: int) -> Curve | None:
    """Return a curve whose x is the middle of each step of a strip that is `WIDTH` wide. None without values.

    >>> draw("distance", (None, 0.5, None, 0.25), 4).line
    'M375 8 L875 50'
    """
    measured = [(step, value) for step, value in enumerate(values) if value is not None]
    if not measured:
        return None
    highest = max(value for _, value in measured)
    scale = (HEIGHT - 2 * _MARGIN) / highest if highest > 0 else 0.0
    points = [
        f"{(step + 0.5) * WIDTH / num_steps:.6g} {HEIGHT - _MARGIN - value * scale:.4g}" for step, value in measured
    ]
    return Curve(
        name=name,
        line="M" + " L".join(points),
        dots=" ".join(f"M{point} h0" for point in points),
        latest=measured[-1][1],
        highest=highest,
    )
