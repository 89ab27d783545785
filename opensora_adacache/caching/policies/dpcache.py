"""DPCache: a fixed schedule, planned by dynamic programming for the least error of forecasting between its steps.

Source: DPCache, CVPR 2026. The plan is made by `planning.plan_least_sum` from the forecast errors of uncached videos
(``scripts/calibrate.py``); it belongs to one model, one number of steps and one timestep schedule. The paper
forecasts the last block's output; here the residual of the stack is forecast, as in all policies that skip it.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.policies.planned import PlannedConfig, TaylorSeries

FIRST_STEPS = 3
"""Steps at the start that always compute."""
LONGEST_GAP_SHARE = 0.3
"""Most steps from one computed step to the next, as a share of all, as in the paper."""


@dataclass(frozen=True)
class DPCacheConfig(TaylorSeries, PlannedConfig):
    """DPCache; skipped steps are extrapolated.

    Attributes:
        steps: the plan, computed steps counted from 1.
        order: of the Taylor series, 1 or 2 (0 would be plain reuse).
    """

    order: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_order()
