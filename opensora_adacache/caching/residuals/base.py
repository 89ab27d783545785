"""What stands in for the residual of the block stack at skipped steps: one base class, chosen by the config.

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.store import ResidualStore

MissedForecast = tuple[float, float]
"""‖r − forecast‖₂² and ‖r‖₂² of one row."""


class StackResidual(ABC):
    """The residual x_out − x_in of the stack: kept at computed steps, added at the others.

    Args:
        store: where its tensors are kept, so that their bytes count.
        num_rows: R.
        device: of the rows.
    """

    NAME = "stack"

    def __init__(self, store: ResidualStore, num_rows: int, device: torch.device) -> None:
        self.store = store
        self.num_rows = num_rows
        self.device = device

    @abstractmethod
    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        """Take the stack's output and input [r, N, C] of the rows that computed (None: all).

        Args:
            after: output.
            before: input.
            rows: index of the rows, int64 [r].
            step: counted from 1.
            timestep: [R] or [1], 0 to 1000.
        """

    @abstractmethod
    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        """Return x plus the residual expected at a step, for those rows [r, N, C]; arguments as in `update`."""

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with some rows only, int64 [r], which are 0..r−1 from now on; the store has dropped the others."""
        self.num_rows = len(rows)

    def take_measurements(self) -> Tensor | None:
        """Return what `update` measured and is to be read on the host, float32 [r, sums]; None: nothing."""
        return None

    def end_computed_step(self, rows: list[int], sums: list[list[float]], timestep: float) -> dict[int, MissedForecast]:
        """Take the measurements of the rows that computed, as numbers; return how far off their forecasts were."""
        return {}
