"""DMD: computes at a fixed interval and continues the residual as a sum of exponentials at the other steps.

Source: the DMD calibrator of cache-dit (dynamic mode decomposition, Schmid 2010, a form of Prony's method; not
distribution matching distillation). In cache-dit the calibrator goes with the decisions of DBCache; here it has the
schedule of TaylorSeer, and ``predictor="exponential"`` combines it with any other decision. Steps at the start that
always compute give a first fit at once; a run of few steps with a long interval never has four residuals at equal
intervals and forecasts lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import is_count
from opensora_adacache.caching.policies.planned import IntervalConfig

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class DMDConfig(IntervalConfig):
    """DMD.

    Attributes:
        interval: steps from one computed step to the next. Raising it computes fewer steps.
        first_steps: number of steps at the start that always compute.
        history: largest number of residuals that a fit uses, at least 4.
    """

    history: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_count(self.history) or self.history < 4:
            raise ValueError(f"history must be a whole number of at least 4, got {self.history!r}")

    @property
    def own_forecast_residuals(self) -> int:
        """The residuals of earlier computed steps."""
        return self.history - 1

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.exponential import ExponentialResidual

        return ExponentialResidual(store, self.history, num_rows, device)
