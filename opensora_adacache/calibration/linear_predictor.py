"""Fit L2P's weights to the products of residuals, and choose the schedule that they serve best."""

from __future__ import annotations

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

FIRST_STEPS = (1, 2, 3, 5)
"""The computed steps with which all published schedules begin."""
RIDGE = 1e-5
"""Penalty on the distance of the weights from reuse, in units of the mean square of the residuals.

It is about the square of a rounding error in half precision, which large weights of opposite sign would amplify.
"""
_NEAR = 3
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


def first_schedule(num_steps: int, num_computed: int) -> tuple[int, ...]:
    """Return the first steps of the published schedules and the others at even intervals, up to the end of the run.

    >>> first_schedule(50, 9), first_schedule(7, 6)
    ((1, 2, 3, 5, 12, 20, 27, 35, 42), (1, 2, 3, 5, 6, 7))
    """
    first = [step for step in FIRST_STEPS if step <= num_steps][:num_computed]
    rest, left = num_computed - len(first), num_steps - first[-1]
    if rest > left:
        return tuple(range(1, num_steps + 1))
    interval = max(left / (rest + 1), 1)
    return (*first, *(first[-1] + int(interval * k) for k in range(1, rest + 1)))


def best_schedule(num_steps: int, num_computed: int, error: Callable[[tuple[int, ...]], float]) -> tuple[int, ...]:
    """Return the schedule that no move of one step by at most three improves, reached from `first_schedule`.

    Args:
        num_steps: number of steps n.
        num_computed: number of computed steps.
        error: what to minimize.

    >>> best_schedule(12, 6, lambda steps: abs(steps[4] - 9) + abs(steps[5] - 12))
    (1, 2, 3, 5, 9, 12)
    """
    now = first_schedule(num_steps, num_computed)
    least, improved = error(now), True
    while improved:
        improved = False
        for step in now[len(FIRST_STEPS) :]:
            for place in range(max(step - _NEAR, FIRST_STEPS[-1] + 1), min(step + _NEAR, num_steps) + 1):
                if place in now or step not in now:
                    continue
                moved = tuple(sorted({*now} - {step} | {place}))
                if (found := error(moved)) < least:
                    now, least, improved = moved, found, True
    return now


class LinearPredictors(PlannedKind):
    """Calibrates L2P: for each number of computed steps, the schedule whose weights predict the uncached runs best.

    Its error is the sum over skipped steps of the error of the forecast, times how far the step moves the latents.
    """

    field_names = frozenset({"steps", "weights"})

    def counts(self, cache: CacheConfig) -> range:
        return range(self.runs.num_steps, 0, -1)

    def plan(self, cache: CacheConfig, num_computed: int) -> Any:
        steps = best_schedule(self.runs.num_steps, num_computed, self.error)
        rows = self._fitted(steps).values()
        weights = tuple(tuple(float(f"{weight:.{_DIGITS}g}") for weight in row) for row in rows)
        return changed(cache, steps=steps, weights=weights)

    def num_runs(self, cache: CacheConfig, num_targets: int, for_psnr: bool) -> float:
        return super().num_runs(cache, num_targets, for_psnr) if for_psnr else len(self.runs.jobs)

    def error(self, steps: tuple[int, ...]) -> float:
        """Return the mean error of a schedule over the videos."""
        fitted = self._fitted(steps)
        if not fitted:
            return 0.0
        missed = np.zeros((len(fitted), self.runs.num_steps))
        for row, (step, weights) in zip(missed, fitted.items(), strict=True):
            row[np.array(steps)[: len(weights)] - 1] = weights
            row[step - 1] = -1.0
        lengths = np.array([self.runs.step_lengths[step] for step in fitted])
        return fmean(float(lengths @ rms(products, missed)) for products in self.runs.products)

    def _fitted(self, steps: tuple[int, ...]) -> dict[int, NDArray[np.float64]]:
        """Return skipped step → weights of the computed steps before it."""
        skipped = [step for step in range(1, self.runs.num_steps + 1) if step not in steps]
        return {
            step: fit_weights(self._mean_products, [computed for computed in steps if computed < step], step)
            for step in skipped
        }

    @cached_property
    def _mean_products(self) -> Products:
        return np.mean(self.runs.products, axis=0)
