"""Measures at each computed step how far the forecast of any predictor was off, for policies that decide from it.

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opensora_adacache.caching.distance import square_norm
from opensora_adacache.caching.residuals.base import MissedForecast, StackResidual


class MeasuredError(StackResidual):
    """Another stack residual whose forecast is compared with the true residual at each computed step.

    Costs one more forecast and two norms at a computed step; the numbers are read together with the others.

    Args:
        inner: the residual to measure.
    """

    measures_error = True

    def __init__(self, inner: StackResidual) -> None:
        super().__init__(inner.store, inner.num_rows, inner.device)
        self.inner = inner
        self._sums: Tensor | None = None
        self._has_forecast = self._measured = False

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        if self._has_forecast:
            missed = after - self.inner.add_to(before, rows, step, timestep)
            self._sums = torch.stack([square_norm(missed), square_norm(after - before)], dim=1)
        self.inner.update(after, before, rows, step, timestep)
        self._has_forecast = True

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        return self.inner.add_to(x, rows, step, timestep)

    def observe_first(self, first: Tensor | None) -> None:
        self.inner.observe_first(first)

    def place_among(self, num_rows: int, first: int) -> None:
        self.inner.place_among(num_rows, first)

    def keep_rows(self, rows: Tensor) -> None:
        super().keep_rows(rows)
        self.inner.keep_rows(rows)

    def take_measurements(self) -> Tensor | None:
        """Return the squared norms of error and residual, then the measurements of the inner residual."""
        sums, self._sums = self._sums, None
        self._measured = sums is not None
        found = [part for part in (sums, self.inner.take_measurements()) if part is not None]
        return torch.cat(found, dim=1) if found else None

    def end_computed_step(self, rows: list[int], sums: list[list[float]], timestep: float) -> dict[int, MissedForecast]:
        # the first computed step has no forecast to compare with
        missed = (
            {row: (values[0], values[1]) for row, values in zip(rows, sums, strict=False)} if self._measured else {}
        )
        self.inner.end_computed_step(rows, [values[2:] if missed else values for values in sums], timestep)
        return missed
