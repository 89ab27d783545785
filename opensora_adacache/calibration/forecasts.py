"""Calibrate ForecastCache: a profile of the model (sensitivity, growth), then a tolerance, or a budget and weights."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.forecast.config import ORDERS, ForecastCacheConfig, PlannedForecastConfig
from opensora_adacache.caching.forecast.schedule import first_steps
from opensora_adacache.calibration.bayesian import FIRST_POINTS, Points, minimize
from opensora_adacache.calibration.forecast_profile import growth_profile, sensitivity_profile, weighted_sensitivity
from opensora_adacache.calibration.kind import CalibrationKind, changed, rounded
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.runs import CalibrationRuns

# Number of prompts to measure the profile on, and of runs to measure growth in.
_PROFILE_JOBS = 8
_PROFILE_SPEEDUPS = (1.5, 2.0, 3.0)
# Tolerances to try.
_TOLERANCES = tuple(10 ** (exponent / 50) for exponent in range(-450, 101))
WEIGHTING_ROUNDS = FIRST_POINTS + 8
"""Weightings of the sensitivity to try for a budget."""
# Range of the coefficients of a weighting's exponent. The second one is 0, since only ratios of weights matter.
_LEAST, _MOST = -2.0, 2.0

Profile = tuple[tuple[float, ...], tuple[float, ...]]
"""Sensitivity and growth at each step."""


class Forecasts(CalibrationKind):
    """Calibrates ForecastCache.

    If the settings have a tolerance, finds the one with the target mean number of steps. Otherwise sets a budget, and
    chooses the order of the forecast and a weighting of the sensitivity (`weighted`) by the quality of the videos.
    """

    field_names = frozenset({"tolerance", "computed_steps", "speedup", "sensitivity", "growth", "order", "corrector"})

    def __init__(self, runs: CalibrationRuns) -> None:
        super().__init__(runs)
        self._profiles: dict[tuple[int, float], Profile] = {}

    def family(self, cache: Any) -> Sequence[CacheConfig]:
        profiled, n = self.profiled(cache), self.runs.num_steps
        if cache.tolerance is not None:
            return [changed(profiled, tolerance=rounded(value)) for value in _TOLERANCES]
        counts = range(n, first_steps(n) - 1, -1)
        return [changed(profiled, speedup=None, computed_steps=count) for count in counts]

    def for_speedup(self, cache: Any, speedup: float) -> Found:
        if cache.tolerance is not None:
            return super().for_speedup(cache, speedup)
        budget = changed(cache, computed_steps=None, speedup=speedup)
        budgets = [self.profiled(changed(budget, order=order)) for order in ORDERS]
        best = self.weighted(max(budgets, key=self.runs.mean_psnr))
        return Found(best, best.budget(self.runs.num_steps))

    def weighted(self, cache: Any) -> Any:
        """Return the settings with the weighting of their sensitivity that makes the best videos, or unchanged.

        A sensitivity is measured with all other steps computed, so it does not know that a computed step also undoes
        earlier errors, which the run loses with every step that it skips. How much that matters depends on the budget.
        As in GCache (arXiv 2608.13043), Bayesian optimization therefore chooses weights by whole cached runs.
        """
        tried = [cache]

        def loss(point: Points) -> float:
            first, third, last = (_LEAST + (_MOST - _LEAST) * float(value) for value in point)
            sensitivity = weighted_sensitivity(cache.sensitivity, (first, 0.0, third, last))
            tried.append(changed(cache, sensitivity=sensitivity))
            return -self.runs.mean_psnr(tried[-1])

        minimize(loss, 3, WEIGHTING_ROUNDS)
        return max(tried, key=self.runs.mean_psnr)

    def profiled(self, cache: Any) -> Any:
        """Return the settings with the sensitivity and growth of this model."""
        kind = cache.order, cache.corrector
        if kind not in self._profiles:
            self._profiles[kind] = self._measure(*kind)
        sensitivity, growth = self._profiles[kind]
        return changed(cache, sensitivity=sensitivity, growth=growth)

    def num_runs(self, cache: Any, num_targets: int, for_psnr: bool) -> float:
        n, profiled, jobs = self.runs.num_steps, min(_PROFILE_JOBS, len(self.runs.jobs)), len(self.runs.jobs)
        profile = profiled * (1 + n / 2) + jobs * sum(1 / speedup for speedup in _PROFILE_SPEEDUPS)
        if cache.tolerance is None and not for_psnr:
            tried = len(ORDERS) + WEIGHTING_ROUNDS
            return len(ORDERS) * profile + jobs * (num_targets * tried / 2 + 1)
        return profile + super().num_runs(cache, num_targets, for_psnr)

    def _measure(self, order: int, corrector: float) -> Profile:
        """Measure a profile on the first jobs only, because it takes a run for each step, from that step on."""
        runs, n, jobs = self.runs, self.runs.num_steps, self.runs.jobs[:_PROFILE_JOBS]
        before = order + 2  # number of computed steps after which every gain of a forecast is measured
        plain = ForecastCacheConfig(computed_steps=n, order=order, corrector=corrector)
        uncached = runs.record(plain, jobs)
        errors = {
            records[0].step: fmean(one.distance or 0.0 for one in records)
            for records in zip(*uncached.traces, strict=True)
        }
        harm = {}
        for step in range(before, n + 1):
            # the earlier steps that the forecast depends on, starting with the first step of the run
            first = max(step - before, 1)
            computed = tuple(s - first + 1 for s in range(first, n + 1) if s != step)
            planned = PlannedForecastConfig(steps=computed, order=order, corrector=corrector)
            latents = runs.denoise_from(first, planned, uncached.outputs, jobs)
            harm[step] = (latents - uncached.latents).square().flatten(1).mean(1).sqrt().mean().item()
        if n in harm:  # no later step corrects the last one; plans account for that themselves
            harm[n] *= 1 - corrector
        sensitivity = sensitivity_profile(harm, errors, n)
        budgets = {max(first_steps(n), round(n / speedup)) for speedup in _PROFILE_SPEEDUPS}
        caches = [changed(plain, computed_steps=k, sensitivity=sensitivity) for k in sorted(budgets)]
        traces = [trace for cache in caches for trace in runs.denoise(cache, jobs)[1]]
        return sensitivity, growth_profile(traces, n)
