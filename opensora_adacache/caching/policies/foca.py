"""FoCa: computes at a fixed interval; the other steps solve an ODE of the residual, forecast and then corrected.

Source: Zheng et al., "Forecast then Calibrate: Feature Caching as ODE for Efficient Diffusion Transformers", AAAI 2026,
arXiv 2508.16211, equations 6 to 8. No code of the paper was found. Three things are not settled by its text, and
public code settles them in different ways:

- Equation 8 needs the derivative at the step that is being forecast. We take the slope of the forecast itself.
- The steps before may be forecasts or computed. We take the last two steps, whichever they are, and go on one step at a
  time; cache-dit does so too but goes from the last computed step in one.
- The derivative at the last computed step is the slope between the last two computed residuals.

The paper forecasts each module; this package forecasts the residual of the whole stack, and also computes the last
step, as TaylorSeer does here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.policies.planned import IntervalConfig

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class FoCaConfig(IntervalConfig):
    """FoCa.

    Attributes:
        interval: steps from one computed step to the next. Raising it computes fewer steps.
        first_steps: number of steps at the start that always compute.
    """

    @property
    def own_forecast_residuals(self) -> int:
        """The slope between computed steps, and how far the local slope deviates from it."""
        return 2

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.heun import HeunResidual

        return HeunResidual(store, num_rows, device)
