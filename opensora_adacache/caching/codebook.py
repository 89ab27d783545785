"""Codebook: maps the distance between two residuals to a rate.

The rate is the distance to the next computed step: at a rate of 4, three steps reuse residuals before one computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from opensora_adacache.caching.checks import is_count, is_number

Codebook = Mapping[float, int]
"""Maps increasing thresholds to rates. A distance gets the rate of the first threshold above it, or else the last rate.
Raising a threshold assigns its rate to larger distances, so fewer steps compute."""


OPEN_SORA_CODEBOOKS: Mapping[str, Codebook] = {
    "fast": {0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.40: 2, 1.00: 1},
    "slow": {0.08: 3, 0.16: 2, 0.24: 1, 0.32: 1, 0.40: 1, 1.00: 1},
    "medium": {0.08: 8, 0.16: 6, 0.24: 4, 0.32: 2, 0.40: 1, 1.00: 1},
    "100 steps": {0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.00: 3},
}
"""Codebooks that the reference implementation publishes for Open-Sora 1.2. All but the last are for 30 steps; "medium"
is from the paper's ablation."""


def check_codebook(codebook: Codebook) -> None:
    """Raise ValueError unless the thresholds strictly increase and every rate is a whole number of at least 1.

    >>> check_codebook({0.08: 6, 1.0: 1})
    """
    if not isinstance(codebook, Mapping) or not codebook:
        raise ValueError(
            f"codebook must map at least one threshold to a rate, like {{0.08: 6, 1.0: 1}}, got {codebook!r}"
        )
    thresholds = list(codebook)
    for threshold, rate in codebook.items():
        if not is_number(threshold):
            raise ValueError(f"codebook thresholds must be finite numbers, got {threshold!r}")
        if not is_count(rate):
            raise ValueError(
                f"codebook rates must be whole numbers of at least 1, got {rate!r} at threshold {threshold}"
            )
    for low, high in zip(thresholds, thresholds[1:], strict=False):
        if high <= low:
            raise ValueError(f"codebook thresholds must rise, got {high} after {low}: sort them in increasing order")


def rate_of(distance: float, codebook: Codebook) -> int:
    """Return the rate of the first threshold above the distance, or else the last rate; 1 if the distance is NaN.

    >>> codebook = {0.08: 6, 0.4: 2, 1.0: 1}
    >>> rate_of(0.05, codebook), rate_of(0.08, codebook), rate_of(9.0, codebook)
    (6, 2, 1)
    """
    rate = 1
    if math.isnan(distance):
        return rate
    for threshold, rate in codebook.items():
        if distance < threshold:
            return rate
    return rate
