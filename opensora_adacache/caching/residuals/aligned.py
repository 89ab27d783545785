"""The residual of the block stack between the last two computed ones, aligned by what the first blocks do (DiCache).

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opensora_adacache.caching.distance import l1_norm
from opensora_adacache.caching.residuals.base import StackResidual
from opensora_adacache.caching.residuals.store import ResidualStore, over_rows, row_index


class AlignedResidual(StackResidual):
    """DiCache's "dynamic cache trajectory alignment".

    With r₁ and r₂ the residuals of the last and the second last computed step, over all blocks, and p₁ and p₂ those of
    the first blocks alone, a skipped step whose first blocks give p adds

        r₂ + γ·(r₁ − r₂),   γ = ‖p − p₂‖₁ / ‖p₁ − p₂‖₁, clipped to 1 … `limit`

    to the input of the first blocks. So their output p itself is not used. After a single computed step, and where the
    first blocks gave the same twice, this is plain reuse.

    Source: DiCache, arXiv 2508.17356, and its published code. There γ is taken over the batch of a call, which holds
    one guidance branch; here each row has its own.

    Args:
        store: where r₁, r₂, p₁ and p₂ are kept, four tensors [R, N, C].
        limit: largest γ, at least 1.
        num_rows: R.
        device: device of the rows.
    """

    BEFORE = "stack before"
    FIRST, FIRST_BEFORE = "first blocks", "first blocks before"

    def __init__(self, store: ResidualStore, limit: float, num_rows: int, device: torch.device) -> None:
        super().__init__(store, num_rows, device)
        self.limit = limit
        self._first: Tensor | None = None

    def observe_first(self, first: Tensor | None) -> None:
        self._first = first

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        first = self._first_of(rows)
        for last, earlier, new in (
            (self.NAME, self.BEFORE, after - before + first),
            (self.FIRST, self.FIRST_BEFORE, first),
        ):
            # the first computed step is its own predecessor; a copy, because rows may be written into one of them
            self.store.put(earlier, self.store.get(last, rows) if last in self.store else new.clone(), rows)
            self.store.put(last, new, rows)

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        first = self._first_of(rows)
        earlier, first_earlier = self.store.get(self.BEFORE, rows), self.store.get(self.FIRST_BEFORE, rows)
        moved = l1_norm(first - first_earlier) / l1_norm(self.store.get(self.FIRST, rows) - first_earlier)
        gamma = moved.nan_to_num(1.0).clamp(1.0, self.limit).to(x.dtype)
        return x - first + torch.lerp(earlier, self.store.get(self.NAME, rows), over_rows(gamma, x))

    def _first_of(self, rows: Tensor | None) -> Tensor:
        assert self._first is not None  # the config asks for first blocks, so every adapter provides their residual
        return self._first[row_index(rows)]
