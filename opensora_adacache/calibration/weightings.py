"""Weights of the steps of a run that a few numbers describe: the exponential of a polynomial in Bernstein's basis."""

from __future__ import annotations

import math
from collections.abc import Sequence


def exponent(coefficients: Sequence[float], position: float) -> float:
    """Return Σ c_k·B_k(x), the polynomial with these Bernstein coefficients at a position in 0..1.

    >>> exponent([0.0, 0.0, 0.0, 8.0], 0.5), exponent([1.0, 1.0, 1.0, 1.0], 0.3)
    (1.0, 1.0)
    """
    d = len(coefficients) - 1
    terms = (math.comb(d, k) * position**k * (1 - position) ** (d - k) for k in range(d + 1))
    return round(sum(c * term for c, term in zip(coefficients, terms, strict=True)), 12)


def weighting(coefficients: Sequence[float], num_steps: int) -> list[float]:
    """Return exp(Σ c_k·B_k(x)) for each step, where x goes from 0 at the first step to 1 at the last.

    >>> [round(weight, 6) for weight in weighting([0.0, math.log(4.0)], 3)]
    [1.0, 2.0, 4.0]
    """
    return [math.exp(exponent(coefficients, step / (num_steps - 1))) for step in range(num_steps)]
