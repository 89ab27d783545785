"""GCache's search: weights of reuse errors over the run, whose best schedule makes the best videos."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from opensora_adacache.calibration.annealing import Schedule
from opensora_adacache.calibration.bayesian import FIRST_POINTS, Points, minimize
from opensora_adacache.calibration.planning import plan_least_total
from opensora_adacache.calibration.products import Products
from opensora_adacache.calibration.weightings import weighting

DEGREE = 3
LARGEST = 10.0
"""Largest coefficient of the exponent."""
ROUNDS = FIRST_POINTS + 24


def reuse_errors(videos: Sequence[Products]) -> dict[tuple[int, int], float]:
    """Return (i, s) → root mean square of r_s − r_i, mean over videos, for steps i < s counted from 1."""
    squares = [products.diagonal()[:, None] + products.diagonal()[None] - 2 * products for products in videos]
    errors = np.mean([np.sqrt(np.maximum(square, 0.0)) for square in squares], axis=0)
    n = len(errors)
    return {(i, s): float(errors[i - 1, s - 1]) for i in range(1, n) for s in range(i + 1, n + 1)}


def weighted_costs(
    errors: Mapping[tuple[int, int], float], coefficients: Sequence[float], num_steps: int
) -> dict[tuple[int, int], float]:
    """Return (i, j) → Σ over i < s < j of exp(w(s))·error of reusing i at s, where j may be n + 1, the end of the run.

    Args:
        errors: (i, s) → that error.
        coefficients: Bernstein coefficients of w over the steps, first step to last.
        num_steps: number of steps n.
    """
    factors = weighting(coefficients, num_steps)
    costs: dict[tuple[int, int], float] = {}
    for (i, s), error in sorted(errors.items()):
        costs[i, s + 1] = costs.get((i, s), 0.0) + factors[s - 1] * error
    return costs


def least_weighted(costs: Mapping[tuple[int, int], float], num_steps: int, num_computed: int) -> Schedule:
    """Return the schedule of least cost, which need not compute the last step.

    >>> least_weighted({(1, 3): 1.0, (1, 4): 5.0, (2, 4): 3.0}, 3, 2)
    (1, 3)
    """
    return tuple(plan_least_total(costs, num_steps + 1, num_computed + 1)[:-1])


def search_weights(
    errors: Mapping[tuple[int, int], float],
    num_steps: int,
    num_computed: int,
    loss: Callable[[Schedule], float],
    rounds: int = ROUNDS,
) -> Schedule:
    """Return the best schedule found. Each schedule is scored once at most.

    Args:
        errors: (i, s) → error of reusing step i at step s.
        num_steps: number of steps n.
        num_computed: number of computed steps K.
        loss: the harm of a schedule, above 0; the search compares its logarithm.
        rounds: number of weightings to try.
    """
    known: dict[Schedule, float] = {}

    def schedule(point: Points) -> Schedule:
        coefficients = [LARGEST * value for value in point]
        return least_weighted(weighted_costs(errors, coefficients, num_steps), num_steps, num_computed)

    def score(point: Points) -> float:
        steps = schedule(point)
        if steps not in known:
            known[steps] = math.log(max(loss(steps), np.finfo(float).tiny))
        return known[steps]

    minimize(score, DEGREE + 1, rounds)
    return min(known, key=known.__getitem__)
