"""Codebook: a map from the distance of two residuals to a rate.

A rate is a number of steps: after a computed step at rate r, the next r − 1 steps reuse its residuals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

Codebook = Mapping[float, int]
"""Rising thresholds → rates. A distance takes the rate of the first threshold it is below, else the last rate.
Raising a threshold gives its rate to larger distances, which means fewer computed steps."""


def check_codebook(codebook: Codebook) -> None:
    """Raise ValueError unless thresholds rise strictly and every rate is a whole number of at least 1.

    >>> check_codebook({0.08: 6, 1.0: 1})
    """
    if not isinstance(codebook, Mapping) or not codebook:
        raise ValueError(
            f"codebook must map at least one threshold to a rate, like {{0.08: 6, 1.0: 1}}, got {codebook!r}"
        )
    thresholds = list(codebook)
    for threshold, rate in codebook.items():
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
            raise ValueError(f"codebook thresholds must be finite numbers, got {threshold!r}")
        if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
            raise ValueError(
                f"codebook rates must be whole numbers of at least 1, got {rate!r} at threshold {threshold}"
            )
    for low, high in zip(thresholds, thresholds[1:], strict=False):
        if high <= low:
            raise ValueError(f"codebook thresholds must rise, got {high} after {low}: sort them from small to large")


def rate_of(distance: float, codebook: Codebook) -> int:
    """Return the rate of a distance: that of the first threshold it is below, else the last one.

    >>> codebook = {0.08: 6, 0.4: 2, 1.0: 1}
    >>> rate_of(0.05, codebook), rate_of(0.08, codebook), rate_of(9.0, codebook)
    (6, 2, 1)
    """
    rate = 1
    for threshold, rate in codebook.items():
        if distance < threshold:
            return rate
    return rate
