"""Inner products between the stack residuals of all steps of an uncached run.

They give the error of any linear forecast, whatever the schedule, without another run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Products = NDArray[np.float64]
"""G[s, t] is the mean over all elements of r_s·r_t, for steps counted from 0, [n, n]."""


@dataclass
class ResidualProducts:
    """Measures the products of one video. Keeps the residuals of all steps while it runs.

    Attributes:
        rows: row s holds the products with steps 0..s.
    """

    rows: list[list[float]] = field(default_factory=list)
    _residuals: list[Tensor] = field(default_factory=list, repr=False)

    def observe(self, x: Tensor, out: Tensor, modulated_input: Tensor) -> None:
        """Record the next step: input and output of the stack [R, N, C]."""
        self._residuals.append((out - x).float())
        newest = self._residuals[-1].double()
        self.rows.append([(newest * residual).mean().item() for residual in self._residuals])

    def matrix(self) -> Products:
        """Return all products and drop the residuals."""
        self._residuals.clear()
        n = len(self.rows)
        return np.array([[self.rows[max(s, t)][min(s, t)] for t in range(n)] for s in range(n)])


def rms(products: Products, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the root mean square of linear combinations of residuals, [..., n] → [...].

    >>> rms(np.array([[4.0, 0.0], [0.0, 9.0]]), np.array([[1.0, 0.0], [0.0, -1.0]])).tolist()
    [2.0, 3.0]
    """
    squares = np.einsum("...s,st,...t->...", coefficients, products, coefficients)
    return np.sqrt(np.maximum(squares, 0.0))
