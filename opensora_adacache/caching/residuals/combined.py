"""The residual of the whole block stack as a linear combination of earlier ones, with weights known before the run.

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from opensora_adacache.caching.combinations import Combination, slots
from opensora_adacache.caching.residuals.base import StackResidual
from opensora_adacache.caching.residuals.store import ResidualStore


class CombinedResidual(StackResidual):
    """Σ w·r over earlier steps, computed or forecast, with weights for each skipped step. Sums are taken in float32.

    Residuals and forecasts that no later step uses are overwritten by the next ones. Rows whose numbers are broken
    compute at skipped steps too, where they take part with their last residual.

    Args:
        store: where the residuals are kept, as many [R, N, C] as are used at a time.
        weights: skipped step → earlier step → weight of its residual or forecast.
        computed: the computed steps.
        num_rows: R.
        device: device of the rows.
    """

    def __init__(
        self,
        store: ResidualStore,
        weights: Mapping[int, Combination],
        computed: Collection[int],
        num_rows: int,
        device: torch.device,
    ) -> None:
        super().__init__(store, num_rows, device)
        self.weights = weights
        self.computed = frozenset(computed)
        self.names = {
            step: f"{self.NAME}, place {place}" if place else self.NAME
            for step, place in slots(weights, computed).items()
        }
        self._latest = 0

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        # kept at a skipped step, the residual of broken rows would take the place of one that the others still need
        if step in self.computed:
            self._keep(after - before, rows, step)

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        forecast = torch.zeros_like(x, dtype=torch.float32)
        for source, weight in self.weights[step].items():
            forecast.add_(self.store.get(self.names[source], rows).float(), alpha=weight)
        if step in self.names:
            self._keep(forecast.to(x.dtype), rows, step)
        return (x.float() + forecast).to(x.dtype)

    def _keep(self, residual: Tensor, rows: Tensor | None, step: int) -> None:
        """Keep the residual of a step; the rows beside these keep their last one."""
        if rows is not None:
            residual = self.store.get(self.names[self._latest]).index_copy(0, rows, residual)
        self.store.put(self.names[step], residual)
        self._latest = step
