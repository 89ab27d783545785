"""The residual of the whole block stack, fitted with Chebyshev polynomials over the timestep (Spectrum).

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.base import MissedForecast, StackResidual
from opensora_adacache.caching.residuals.store import ResidualStore, over_rows, row_index
from opensora_adacache.caching.residuals.taylor import LineResidual


class ChebyshevResidual(StackResidual):
    """A ridge regression of all computed residuals on Chebyshev polynomials T₀ … T_M of the timestep.

    With the rows X = (T₀(τ), …, T_M(τ)) of the computed steps and their residuals H, the forecast at τ* is
    x*ᵀ (XᵀX + λ)⁻¹ XᵀH, where τ = t / 500 − 1 lies in −1..1. XᵀH is M + 1 sums to which each computed step adds, so no
    residual is stored by itself: the memory does not grow with the number of computed steps.

    Source: Spectrum, arXiv 2603.01623. The ridge pulls the forecast towards zero while few steps have computed. Its
    published code can mix in the line through the last two residuals.

    Args:
        store: where the sums are kept in float32, M + 1 tensors [R, N, C], and two more for the line.
        degree: M.
        ridge: λ.
        blend: weight of the regression; 1 − blend is that of the line, which 1 leaves out.
        num_rows: R.
        device: device of the rows.
    """

    def __init__(
        self, store: ResidualStore, degree: int, ridge: float, blend: float, num_rows: int, device: torch.device
    ) -> None:
        super().__init__(store, num_rows, device)
        self.degree = degree
        self.ridge = ridge
        self.blend = blend
        self.names = [f"{self.NAME} along T{i}" for i in range(degree + 1)]
        self.line = LineResidual(store, num_rows, device) if blend < 1 else None
        self.times: list[list[float]] = [[] for _ in range(num_rows)]
        self._first = 0
        self._inverse = self._send()

    def place_among(self, num_rows: int, first: int) -> None:
        self.times = [[] for _ in range(num_rows)]
        self._first = first

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        residual = (after - before).detach().float()
        for value, name in zip(chebyshev(_tau(timestep), self.degree).unbind(-1), self.names, strict=True):
            added = over_rows(value, residual) * residual
            self.store.put(name, self.store.get(name, rows) + added if name in self.store else added, rows)
        if self.line is not None:
            self.line.update(after, before, rows, step, timestep)

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        # a matrix product would be taken in half precision under autocast
        weights = (self._inverse[row_index(rows)] * chebyshev(_tau(timestep), self.degree)).sum(-1) * self.blend
        out = x.float() if self.line is None else x + (self.line.add_to(x, rows, step, timestep) - x) * (1 - self.blend)
        for i, name in enumerate(self.names):
            out = torch.addcmul(out.float(), self.store.get(name, rows), over_rows(weights[:, i], x))
        return out.to(x.dtype)

    def keep_rows(self, rows: Tensor) -> None:
        super().keep_rows(rows)
        self.times = [self.times[row] for row in rows.tolist()]
        self._inverse = self._inverse[rows]
        if self.line is not None:
            self.line.keep_rows(rows)

    def end_computed_step(self, rows: list[int], sums: list[list[float]], timestep: float) -> dict[int, MissedForecast]:
        for row in rows:
            self.times[row].append(timestep)
        self._inverse = self._send()
        return {}

    def _send(self) -> Tensor:
        """Return (XᵀX + λ)⁻¹ of each row, [R, M + 1, M + 1]."""
        held = self.times[self._first : self._first + self.num_rows]
        known: dict[tuple[float, ...], Tensor] = {}  # rows that computed together share it
        for times in map(tuple, held):
            if times not in known:
                known[times] = ridge_inverse(times, self.degree, self.ridge)
        return torch.stack([known[tuple(times)] for times in held]).float().to(self.device)


def chebyshev(tau: Tensor, degree: int) -> Tensor:
    """Return T₀(τ) … T_M(τ) for each τ: [k] → [k, degree + 1].

    >>> chebyshev(torch.tensor([0.5]), 3).tolist()
    [[1.0, 0.5, -0.5, -1.0]]
    """
    values = [torch.ones_like(tau), tau]
    for _ in range(1, degree):
        values.append(2 * tau * values[-1] - values[-2])
    return torch.stack(values[: degree + 1], dim=-1)


def ridge_inverse(times: Sequence[float], degree: int, ridge: float) -> Tensor:
    """Return (XᵀX + λ)⁻¹ in float64 for computed steps at timesteps 0 to 1000, [degree + 1, degree + 1].

    >>> ridge_inverse([1000.0], 0, 0.25).tolist()
    [[0.8]]
    """
    basis = chebyshev(torch.tensor(times, dtype=torch.float64) / 500 - 1, degree)
    return torch.linalg.inv(basis.T @ basis + ridge * torch.eye(degree + 1, dtype=torch.float64))


def _tau(timestep: Tensor) -> Tensor:
    """Return τ of a step, float32 [1]; the rows of a batch have the same timestep, [R] or [1]."""
    return timestep.detach().flatten()[:1].float() / 500 - 1
