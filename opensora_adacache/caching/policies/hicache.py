"""HiCache: computes at a fixed interval and extrapolates the other steps with scaled Hermite polynomials.

Source: Feng et al., "HiCache: A Plug-in Scaled-Hermite Upgrade for Taylor-Style Cache-then-Forecast Diffusion
Acceleration", ICLR 2026, arXiv 2508.16984. Its code leaves the contraction σ to each model (0.5 by default, 0.6 and 0.7
in its examples; a later variant derives σ from statistics of the differences, which we do not have). The paper
forecasts each module; this package forecasts the residual of the whole stack, and also computes the last step, as
TaylorSeer does here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_choice, is_number
from opensora_adacache.caching.policies.planned import IntervalConfig

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class HiCacheConfig(IntervalConfig):
    """HiCache.

    Attributes:
        interval: steps from one computed step to the next. Raising it computes fewer steps.
        first_steps: number of steps at the start that always compute.
        order: highest degree of the polynomials, 1 or 2.
        sigma: their contraction, above 0 and at most 1.
    """

    order: int = 2
    sigma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("order", self.order, (1, 2))
        if not is_number(self.sigma) or not 0 < self.sigma <= 1:
            raise ValueError(f"sigma must be above 0 and at most 1, got {self.sigma!r}")

    @property
    def own_forecast_residuals(self) -> int:
        """The finite differences."""
        return self.order

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.hermite import HermiteResidual

        return HermiteResidual(store, self.order, self.sigma, num_rows, device)
