"""The last residual of the block stack, with the error that is expected of reusing it at each step taken off.

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.residuals.taylor import TaylorResidual


class RectifiedResidual(TaylorResidual):
    """ERTACache's error rectification: v̂ = ṽ − (a·ṽ + b), where ṽ is the input of the stack plus the last residual.

    Args:
        store: where the residual is kept.
        slopes: a of each step.
        offsets: b of each step.
        num_rows: R.
        device: device of the rows.
    """

    def __init__(
        self,
        store: ResidualStore,
        slopes: Sequence[float],
        offsets: Sequence[float],
        num_rows: int,
        device: torch.device,
    ) -> None:
        super().__init__(store, 0, num_rows, device)
        self.slopes, self.offsets = slopes, offsets

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        out = super().add_to(x, rows, step, timestep)
        return out - (self.slopes[step - 1] * out + self.offsets[step - 1])
