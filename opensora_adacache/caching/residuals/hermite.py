"""The residual of the whole block stack, extrapolated with scaled Hermite polynomials.

R batch rows.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.residuals.taylor import TaylorResidual

Real = TypeVar("Real", float, Tensor)


def scaled_hermite(degree: int, x: Real, sigma: float) -> Real:
    """Return σⁿ·Hₙ(σx), where Hₙ is the physicists' Hermite polynomial: H₁(y) = 2y, H₂(y) = 4y² − 2, ….

    Args:
        degree: n, at least 1.
        x: argument.
        sigma: the contraction σ.

    >>> scaled_hermite(1, 3.0, 0.5), scaled_hermite(2, 3.0, 0.5)
    (1.5, 1.75)
    """
    y = sigma * x
    before, value = y * 0 + 1, 2 * y
    for k in range(1, degree):
        before, value = value, 2 * y * value - 2 * k * before
    return sigma**degree * value


class HermiteResidual(TaylorResidual):
    """The Taylor series' finite differences, with Hermite polynomials as weights: r + Σ Δⁱr · σⁱHᵢ(σk) / i!.

    k is the number of steps since the last computed step, and the differences are those of `TaylorResidual`. With σ =
    0.5 the first-order term is half of the Taylor series' one.

    Source: HiCache, arXiv 2508.16984.

    Args:
        store: where the tensors are kept, 1 + order tensors [R, N, C].
        order: highest degree, 1 or 2.
        sigma: the contraction σ, above 0 and at most 1.
        num_rows: R.
        device: device of the rows.
    """

    def __init__(self, store: ResidualStore, order: int, sigma: float, num_rows: int, device: torch.device) -> None:
        super().__init__(store, order, num_rows, device)
        self.sigma = sigma

    def weight(self, term: int, distance: Tensor) -> Tensor:
        return scaled_hermite(term, distance, self.sigma) / math.factorial(term)
