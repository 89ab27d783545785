"""Plan fixed schedules from the measured costs of skipping steps on this model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.policies.dpcache import FIRST_STEPS
from opensora_adacache.caching.policies.lemica import LONGEST_GAP
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.calibration.kind import CalibrationKind, changed
from opensora_adacache.calibration.planning import plan_least_sum, plan_least_total, plan_least_worst
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.search import search
from opensora_adacache.calibration.step_costs import forecast_costs, mean_costs, reuse_costs

# Number of prompts to measure LeMiCa's costs on.
_SEGMENT_JOBS = 3


class Plans(CalibrationKind):
    """Calibrates LeMiCa and DPCache with the costs and planners of their papers.

    Any other policy with planned steps gets the schedule of least total reuse error, which is the best static schedule
    if errors are additive.
    """

    field_names = frozenset({"steps"})

    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        return [self.plan(cache, num_computed) for num_computed in self._counts(cache)]

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        target, _ = search(self._counts(cache), float, self.runs.num_steps / speedup)
        return Found(self.plan(cache, target), target)

    def plan(self, cache: CacheConfig, num_computed: int) -> Any:
        """Return the settings with a schedule of `num_computed` steps for this model.

        Raises:
            ValueError: no allowed schedule has that many computed steps.
        """
        n = self.runs.num_steps
        if num_computed == n:
            return changed(cache, steps=tuple(range(1, n + 1)))
        planner = _planner(cache)
        if planner == "DPCache":
            costs = {key: cost for key, cost in self.forecast_costs.items() if _keeps_first(key)}
            steps = plan_least_sum(costs, n, num_computed)
        elif planner == "LeMiCa":
            steps = plan_least_worst(self.segment_costs, n, num_computed)
        else:
            steps = plan_least_total(self.reuse_costs, n, num_computed)
        return changed(cache, steps=tuple(steps))

    def _counts(self, cache: CacheConfig) -> range:
        """Return the possible numbers of computed steps, in descending order."""
        planner = _planner(cache)
        first = FIRST_STEPS if planner == "DPCache" else 1
        gap = LONGEST_GAP if planner == "LeMiCa" else self.runs.longest_gap
        fewest = first + math.ceil((self.runs.num_steps - first) / gap)
        return range(self.runs.num_steps, fewest - 1, -1)

    @cached_property
    def forecast_costs(self) -> dict[tuple[int, int, int], float]:
        """DPCache's costs, averaged over videos."""
        return mean_costs(forecast_costs(measured, self.runs.longest_gap) for measured in self.runs.measurements)

    @cached_property
    def reuse_costs(self) -> dict[tuple[int, int], float]:
        """Cost of reusing a residual over each interval, averaged over videos (`step_costs.reuse_costs`)."""
        videos = self.runs.measurements
        return mean_costs(reuse_costs(measured, self.runs.step_lengths) for measured in videos)

    @cached_property
    def segment_costs(self) -> dict[tuple[int, int], float]:
        """LeMiCa's costs: (i, j) → mean |latents − uncached latents| if only the steps between i and j reuse.

        This takes about `LONGEST_GAP` − 1 runs per step, so it uses only the first jobs and starts each run at step i.
        """
        costs, n, jobs = {}, self.runs.num_steps, self.runs.jobs[:_SEGMENT_JOBS]
        uncached = self.runs.record(None, jobs)
        for i in range(1, n + 1):
            for j in range(i + 2, min(i + LONGEST_GAP, n) + 1):
                computed = (1, *range(j - i + 1, n - i + 2))
                latents = self.runs.denoise_from(i, PlannedConfig(steps=computed), uncached.outputs, jobs)
                costs[i, j] = (latents - uncached.latents).abs().mean().item()
        return costs


def _planner(cache: CacheConfig) -> str:
    """Return whose planner to use: the name of the policy's class without its suffix."""
    return type(cache).__name__.removesuffix("Config")


def _keeps_first(key: tuple[int, int, int]) -> bool:
    """Return whether a transition skips none of the first steps."""
    return all(late == early + 1 for early, late in zip(key, key[1:], strict=False) if early < FIRST_STEPS)
