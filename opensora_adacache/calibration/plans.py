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
from opensora_adacache.calibration.annealing import Schedule
from opensora_adacache.calibration.kind import changed, rounded
from opensora_adacache.calibration.planned_kind import PlannedKind
from opensora_adacache.calibration.planning import plan_least_sum, plan_least_total, plan_least_worst, steps_below
from opensora_adacache.calibration.runs import CalibrationRuns
from opensora_adacache.calibration.schedule_searches import SEARCHED, ScheduleSearches
from opensora_adacache.calibration.step_costs import (
    error_lines,
    forecast_costs,
    mean_costs,
    relative_reuse_errors,
    reuse_costs,
)


class Plans(PlannedKind):
    """Calibrates LeMiCa, DPCache and ERTACache with the costs and planners of their papers; BudCache, GCache and
    ReCache with their searches.

    Any other policy with planned steps gets the schedule of least total reuse error, which is the best static schedule
    if errors are additive.
    """

    field_names = frozenset({"steps"})

    def __init__(self, runs: CalibrationRuns) -> None:
        super().__init__(runs)
        self._searches = ScheduleSearches(runs)

    def num_runs(self, cache: CacheConfig, num_targets: int, for_psnr: bool) -> float:
        return super().num_runs(cache, num_targets, for_psnr) + self._searches.num_runs(_planner(cache), num_targets)

    def plan(self, cache: CacheConfig, num_computed: int) -> Any:
        n = self.runs.num_steps
        if num_computed == n:
            return changed(cache, steps=tuple(range(1, n + 1)))
        planner = _planner(cache)
        if planner == "DPCache":
            costs = {key: cost for key, cost in self.forecast_costs.items() if _keeps_first(key)}
            steps = plan_least_sum(costs, n, num_computed)
        elif planner == "LeMiCa":
            steps = plan_least_worst(self.segment_costs, n, num_computed)
        elif planner in SEARCHED:
            steps = list(self._searches.schedule(planner, num_computed, cache.predictor))
        elif planner == "UnshiftedERTACache":
            return self._rectified(cache, self.steps_below[num_computed])
        else:
            steps = plan_least_total(self.reuse_costs, n, num_computed)
        return changed(cache, steps=tuple(steps))

    def _rectified(self, cache: CacheConfig, steps: Schedule) -> Any:
        """Return ERTACache's settings for a schedule, with the line through the errors of each reused step."""
        n = self.runs.num_steps
        pairs = {step: (max(c for c in steps if c < step), step) for step in range(1, n + 1) if step not in steps}
        lines = [self.error_lines[pairs[step]] if step in pairs else (0.0, 0.0) for step in range(1, n + 1)]
        slopes, offsets = (tuple(map(rounded, column)) for column in zip(*lines, strict=True))
        return changed(cache, steps=steps, slopes=slopes, offsets=offsets)

    def counts(self, cache: CacheConfig) -> Sequence[int]:
        planner = _planner(cache)
        if planner == "UnshiftedERTACache":
            return sorted(self.steps_below, reverse=True)
        if planner in SEARCHED:
            return range(self.runs.num_steps, 1, -1)
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
    def steps_below(self) -> dict[int, Schedule]:
        """ERTACache's schedules, by their number of computed steps; of several, that with the least threshold."""
        n = self.runs.num_steps
        errors = mean_costs(relative_reuse_errors(measured) for measured in self.runs.measurements)
        thresholds = sorted({*errors.values(), 0.0, math.inf}, reverse=True)
        found = (steps_below(errors, n, threshold) for threshold in thresholds)
        return {len(steps): steps for steps in found}

    @cached_property
    def error_lines(self) -> dict[tuple[int, int], tuple[float, float]]:
        """ERTACache's linear models of the errors of reuse (`step_costs.error_lines`)."""
        return error_lines(self.runs.measurements)

    @cached_property
    def segment_costs(self) -> dict[tuple[int, int], float]:
        """LeMiCa's costs: (i, j) → mean |latents − uncached latents| if only the steps between i and j reuse.

        This takes about `LONGEST_GAP` − 1 runs per step, so it uses only the first jobs and starts each run at step i.
        """
        costs, n, jobs = {}, self.runs.num_steps, self._searches.jobs
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
