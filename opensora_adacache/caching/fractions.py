"""Fractions of a run as whole steps."""

from __future__ import annotations

import math


def whole_steps(fraction: float, num_steps: int) -> int:
    """Return how many whole steps a fraction of some steps holds, whatever the rounding of their product.

    >>> whole_steps(0.29, 100), whole_steps(0.37, 30)
    (29, 11)
    """
    return math.floor(fraction * num_steps + 1e-9)
