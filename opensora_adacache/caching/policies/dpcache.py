"""DPCache: a fixed schedule, planned by dynamic programming to minimize the forecast error between its steps.

Source: DPCache, CVPR 2026. `calibration.planning.plan_least_sum` makes the plan from the forecast errors of uncached
videos (``scripts/calibrate.py``). A plan is valid for one model, one number of steps and one timestep schedule. The
paper forecasts the output of the last block; this package forecasts the residual of the stack, as in all policies that
skip the stack.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.policies.planned import PlannedConfig, TaylorSeries

FIRST_STEPS = 3
"""Steps at the start that always compute."""
LONGEST_INTERVAL_FRACTION = 0.3
"""Largest interval between computed steps, as a fraction of the run, as in the paper."""


@dataclass(frozen=True)
class DPCacheConfig(TaylorSeries, PlannedConfig):
    """DPCache; skipped steps are extrapolated.

    Attributes:
        steps: the plan: computed steps, counted from 1.
        order: order of the Taylor series, 1 or 2 (0 would be plain reuse).
    """

    order: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_order()
