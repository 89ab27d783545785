"""The residual of the whole block stack as a linear combination of computed ones, with weights known before the run.

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from opensora_adacache.caching.combinations import Combination, slots
from opensora_adacache.caching.residuals.base import StackResidual
from opensora_adacache.caching.residuals.store import ResidualStore


class CombinedResidual(StackResidual):
    """Σ w·r over computed steps, with weights for each skipped step. Sums are taken in float32.

    Residuals that no later step uses are overwritten by the next ones. Rows that do not compute with the others,
    because guidance leaves them out, take part with their last residual.

    Args:
        store: where the residuals are kept, as many [R, N, C] as are used at a time.
        combinations: skipped step → weights of the residuals of computed steps.
        computed: the computed steps, in increasing order.
        num_rows: R.
        device: device of the rows.
    """

    def __init__(
        self,
        store: ResidualStore,
        combinations: Mapping[int, Combination],
        computed: Sequence[int],
        num_rows: int,
        device: torch.device,
    ) -> None:
        super().__init__(store, num_rows, device)
        self.combinations = combinations
        self.names = {
            step: f"{self.NAME}, place {place}" if place else self.NAME
            for step, place in slots(combinations, computed).items()
        }
        self._latest = 0

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        if step not in self.names:
            return  # rows whose numbers are broken compute further steps, which no forecast uses
        residual = after - before
        if rows is not None:
            residual = self.store.get(self.names[self._latest]).index_copy(0, rows, residual)
        self.store.put(self.names[step], residual)
        self._latest = step

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        out = x.float()
        for source, weight in self.combinations[step].items():
            out = out.add(self.store.get(self.names[source], rows).float(), alpha=weight)
        return out.to(x.dtype)
