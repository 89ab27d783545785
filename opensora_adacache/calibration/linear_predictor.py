"""Fit L2P's weights to the products of residuals, and choose the schedule that they serve best."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.calibration.kind import changed
from opensora_adacache.calibration.planned_kind import PlannedKind
from opensora_adacache.calibration.products import Products, rms
from opensora_adacache.calibration.runs import CalibrationRuns

RIDGE = 1e-5
"""Penalty on the distance of the weights from reuse, in units of the mean square of the residuals.

It is about the square of a rounding error in half precision, which large weights of opposite sign would amplify.
"""
_NEAR = 3
_STRIDES, _MOST_FIRST = 20, 0.4
_DIGITS = 6


def fit_weights(products: Products, steps: Sequence[int], target: int) -> NDArray[np.float64]:
    """Return the weights of the residuals of `steps` of least mean squared error at step `target`.

    Args:
        products: mean products of residuals over all videos, [n, n].
        steps: computed steps before the target, counted from 1.
        target: the skipped step.

    >>> fit_weights(np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [1.0, 3.0, 5.0]]), [1, 2], 3).round(3).tolist()
    [-1.0, 2.0]
    """
    known = np.array(steps) - 1
    reuse = np.zeros(len(known))
    reuse[-1] = 1.0
    gram = products[np.ix_(known, known)]
    wanted = products[known, target - 1] - gram[:, -1]  # what reuse leaves
    ridge = RIDGE * products.diagonal().mean() * np.eye(len(known))
    return reuse + np.linalg.solve(gram + ridge, wanted)


def first_schedule(num_steps: int, num_computed: int, first_steps: int) -> tuple[int, ...]:
    """Return the first steps and the others at even intervals, up to the end of the run.

    >>> first_schedule(50, 9, 4), first_schedule(7, 6, 2)
    ((1, 2, 3, 4, 11, 19, 27, 34, 42), (1, 2, 3, 4, 5, 6))
    """
    rest, left = num_computed - first_steps, num_steps - first_steps
    interval = max(left / (rest + 1), 1)
    return (*range(1, first_steps + 1), *(first_steps + int(interval * k) for k in range(1, rest + 1)))


def best_schedule(
    num_steps: int, num_computed: int, first_steps: int, error: Callable[[tuple[int, ...]], float]
) -> tuple[int, ...]:
    """Return the schedule that no move of one step by at most three improves, reached from `first_schedule`.

    Args:
        num_steps: number of steps n.
        num_computed: number of computed steps.
        first_steps: number of steps at the start that compute.
        error: what to minimize.

    >>> best_schedule(12, 6, 4, lambda steps: abs(steps[4] - 9) + abs(steps[5] - 12))
    (1, 2, 3, 4, 9, 12)
    """
    now = first_schedule(num_steps, num_computed, first_steps)
    least, improved = error(now), True
    while improved:
        improved = False
        for step in now[first_steps:]:
            for place in range(max(step - _NEAR, first_steps + 1), min(step + _NEAR, num_steps) + 1):
                if place in now or step not in now:
                    continue
                moved = tuple(sorted({*now} - {step} | {place}))
                if (found := error(moved)) < least:
                    now, least, improved = moved, found, True
    return now


def first_counts(num_steps: int, num_computed: int) -> list[int]:
    """Return the numbers of first steps to try: one, and up to 0.4 · n in about eight strides.

    >>> first_counts(50, 30), first_counts(50, 7)
    ([1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20], [1, 2, 4, 6])
    """
    stride = max(num_steps // _STRIDES, 1)
    most = min(num_computed, int(_MOST_FIRST * num_steps))
    return sorted({1, *range(stride, most + 1, stride)})


class LinearPredictors(PlannedKind):
    """Calibrates L2P: for each number of computed steps, a schedule whose weights predict the uncached runs well.

    The error of a schedule is the sum over skipped steps of the error of the forecast, times how far the step moves the
    latents. It does not know how later steps amplify an error, so cached videos choose among the best schedules for
    several numbers of first steps.
    """

    field_names = frozenset({"steps", "weights"})

    def __init__(self, runs: CalibrationRuns) -> None:
        super().__init__(runs)
        self._fits: dict[tuple[tuple[int, ...], int], tuple[NDArray[np.float64], float]] = {}

    def counts(self, cache: CacheConfig) -> range:
        return range(self.runs.num_steps, 0, -1)

    def plan(self, cache: CacheConfig, num_computed: int) -> Any:
        n = self.runs.num_steps
        found = {best_schedule(n, num_computed, first, self.error) for first in first_counts(n, num_computed)}
        settings = [self._settings(cache, steps) for steps in sorted(found)]
        return settings[0] if len(settings) == 1 else max(settings, key=self.runs.mean_psnr)

    def num_runs(self, cache: CacheConfig, num_targets: int, for_psnr: bool) -> float:
        n = self.runs.num_steps
        tried = num_targets * len(first_counts(n, n)) / 2
        return super().num_runs(cache, num_targets, for_psnr) if for_psnr else len(self.runs.jobs) * (2 + tried)

    def error(self, steps: tuple[int, ...]) -> float:
        """Return the mean error of a schedule over the videos."""
        return sum(self._fit(steps, target)[1] for target in self._skipped(steps))

    def _settings(self, cache: CacheConfig, steps: tuple[int, ...]) -> Any:
        rows = [self._fit(steps, target)[0] for target in self._skipped(steps)]
        weights = tuple(tuple(float(f"{weight:.{_DIGITS}g}") for weight in row) for row in rows)
        return changed(cache, steps=steps, weights=weights)

    def _skipped(self, steps: tuple[int, ...]) -> list[int]:
        return [step for step in range(1, self.runs.num_steps + 1) if step not in steps]

    def _fit(self, steps: tuple[int, ...], target: int) -> tuple[NDArray[np.float64], float]:
        """Return the weights of the computed steps before a skipped one, and the error of the forecast."""
        before = steps[: bisect_left(steps, target)]
        if (before, target) not in self._fits:  # schedules that differ later share it
            weights = fit_weights(self._mean_products, before, target)
            missed = np.zeros(self.runs.num_steps)
            missed[np.array(before) - 1] = weights
            missed[target - 1] = -1.0
            error = fmean(float(rms(products, missed)) for products in self.runs.products)
            self._fits[before, target] = weights, self.runs.step_lengths[target] * error
        return self._fits[before, target]

    @cached_property
    def _mean_products(self) -> Products:
        return np.mean(self.runs.products, axis=0)
