"""Searches for schedules that judge them by whole cached runs: BudCache's, GCache's and ReCache's."""

from __future__ import annotations

import math
import sys
from functools import cached_property
from typing import Any

from torch import Tensor

from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.calibration.annealing import ANNEALING_ROUNDS, CLIMBING_ROUNDS, Schedule, anneal
from opensora_adacache.calibration.planned_runs import PlannedRuns
from opensora_adacache.calibration.reinforce import GROUP, UPDATES, SchedulePolicy, learn
from opensora_adacache.calibration.runs import CalibrationRuns
from opensora_adacache.calibration.weighted_reuse import ROUNDS, reuse_errors, search_weights

SEARCHED = ("BudCache", "GCache", "ReCache")
# Number of prompts to compare schedules on.
_JOBS = 3


class ScheduleSearches:
    """Schedules found so far, and the runs that find more. Skipped steps use the predictor of the settings.

    Args:
        runs: runs of the calibration prompts.

    Attributes:
        jobs: the jobs that are run again and again, the first few.
    """

    def __init__(self, runs: CalibrationRuns) -> None:
        self.runs = runs
        self.jobs: list[Any] = runs.jobs[:_JOBS]
        self._found: dict[tuple[str, int, str | None], Schedule] = {}
        self._policies: dict[str | None, SchedulePolicy] = {}

    def schedule(self, planner: str, num_computed: int, predictor: str | None) -> Schedule:
        """Return the schedule of a planner in `SEARCHED` with this many computed steps."""
        key = planner, num_computed, predictor
        if key not in self._found:
            self._found[key] = self._search(planner, num_computed, predictor)
        return self._found[key]

    def num_runs(self, planner: str, num_targets: int) -> float:
        """Return about how many uncached runs of one video the planner costs; cached ones take about half as long.

        This is an upper bound, because schedules that come up again are not run again and searches may end early.
        """
        match planner:
            case "BudCache":
                # runs that begin where they depart from an earlier one take about a quarter as long
                return num_targets * len(self.jobs) * (ANNEALING_ROUNDS + CLIMBING_ROUNDS * self.runs.num_steps) / 4
            case "GCache":
                return num_targets * len(self.jobs) * ROUNDS / 2
            case "ReCache":
                return UPDATES * GROUP / 2
        return 0.0

    def _search(self, planner: str, num_computed: int, predictor: str | None) -> Schedule:
        if planner == "ReCache":
            return self._learned(predictor).schedule(num_computed)

        planned = PlannedRuns(self.runs, self.jobs)

        def loss(steps: Schedule) -> float:
            if predictor is not None:  # forecasts depend on more than the last computed step
                return self._harm(PlannedConfig(steps=steps, predictor=predictor))
            return self._distance(planned.latents(steps))

        if planner == "BudCache":
            return anneal(self.runs.num_steps, num_computed, loss)
        return search_weights(reuse_errors(self.runs.products), self.runs.num_steps, num_computed, loss)

    def _learned(self, predictor: str | None) -> SchedulePolicy:
        """Return ReCache's policy, which learns to compute from a quarter to three quarters of the steps."""
        if predictor not in self._policies:
            n = self.runs.num_steps
            counts = range(max(2, n // 4), math.ceil(0.75 * n) + 1)

            def reward(steps: Schedule, video: int) -> float:
                harm = self._harm(PlannedConfig(steps=steps, predictor=predictor), slice(video, video + 1))
                return -math.log(max(harm, sys.float_info.min))

            self._policies[predictor] = learn(n, counts, len(self.jobs), reward)
        return self._policies[predictor]

    def _harm(self, cache: PlannedConfig, chosen: slice = slice(None)) -> float:
        """Return the mean squared error of the final latents of some jobs."""
        return self._distance(self.runs.denoise(cache, self.jobs[chosen])[0], chosen)

    def _distance(self, latents: Tensor, chosen: slice = slice(None)) -> float:
        return (latents - self._uncached_latents[chosen]).square().mean().item()

    @cached_property
    def _uncached_latents(self) -> Tensor:
        return self.runs.denoise(None, self.jobs)[0]
