"""Base class for what provides the residual of the block stack at skipped steps; the config chooses the subclass.

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.store import ResidualStore

MissedForecast = tuple[float, float]
"""‖r − forecast‖₂² and ‖r‖₂² of one row."""


class StackResidual(ABC):
    """The residual x_out − x_in of the stack: stored at computed steps, added to the input at skipped steps.

    Args:
        store: where its tensors are kept, so that their bytes are counted.
        num_rows: R.
        device: device of the rows.
    """

    NAME = "stack"
    measures_error: ClassVar[bool] = False
    """Whether `end_computed_step` returns the errors of the forecasts; if not, `MeasuredError` can measure them."""

    def __init__(self, store: ResidualStore, num_rows: int, device: torch.device) -> None:
        self.store = store
        self.num_rows = num_rows
        self.device = device

    @abstractmethod
    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        """Receive the stack's output and input [r, N, C] for the rows that computed (None: all rows).

        Args:
            after: output.
            before: input.
            rows: index of the rows, int64 [r].
            step: counted from 1.
            timestep: [R] or [1], 0 to 1000.
        """

    @abstractmethod
    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        """Return x plus the residual expected at a step, for these rows [r, N, C]; arguments as in `update`."""

    def observe_first(self, first: Tensor | None) -> None:
        """Receive the residual [R, N, C] of the blocks that always run, at every step before the policy decides.

        None if there are no such blocks (`CacheConfig.num_first_blocks`), and at the end of the step.
        """
        return None

    def place_among(self, num_rows: int, first: int) -> None:
        """Learn that the other guidance branch is on another process: these rows are `first`, `first` + 1, … of R.

        `end_computed_step` then receives the measurements of all R rows.
        """
        return None

    def keep_rows(self, rows: Tensor) -> None:
        """Continue with only some rows, int64 [r], renumbered 0..r−1; the store has already dropped the others."""
        self.num_rows = len(rows)

    def take_measurements(self) -> Tensor | None:
        """Return the measurements of `update` to be read on the host, float32 [r, sums], or None for none."""
        return None

    def end_computed_step(self, rows: list[int], sums: list[list[float]], timestep: float) -> dict[int, MissedForecast]:
        """Receive the measurements of the rows that computed, as numbers; return the errors of their forecasts."""
        return {}
