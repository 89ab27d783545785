"""TaylorSeer: computes at a fixed interval and extrapolates the other steps by a Taylor series of finite differences.

Source: Liu et al., "From Reusing to Forecasting: Accelerating Diffusion Models with TaylorSeers", arXiv 2503.06923. The
paper forecasts each module; this package forecasts the residual of the whole stack, which stores order + 1 tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.policies.planned import IntervalConfig, TaylorSeries


@dataclass(frozen=True)
class TaylorSeerConfig(TaylorSeries, IntervalConfig):
    """TaylorSeer.

    Attributes:
        interval: steps from one computed step to the next. Raising it computes fewer steps.
        order: order of the Taylor series, 1 or 2 (0 would be plain reuse).
        first_steps: number of steps at the start that always compute.
    """

    order: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_order()
