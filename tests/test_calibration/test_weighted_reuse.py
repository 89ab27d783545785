"""GCache's weights of reuse errors, by hand, and its search."""

from __future__ import annotations

import math

import numpy as np
import pytest

from opensora_adacache.calibration.weighted_reuse import least_weighted, reuse_errors, search_weights, weighted_costs
from opensora_adacache.calibration.weightings import exponent


def test_errors_are_distances_between_residuals():
    values = np.array([[1.0], [4.0], [2.0]])
    twice = reuse_errors([values @ values.T, 4 * values @ values.T])  # distances of the second video are doubled
    assert twice == {(1, 2): pytest.approx(4.5), (1, 3): pytest.approx(1.5), (2, 3): pytest.approx(3.0)}


def test_the_exponent_ends_at_its_first_and_last_coefficient():
    coefficients = [1.0, 5.0, 7.0, 2.0]
    assert exponent(coefficients, 0.0) == 1.0 and exponent(coefficients, 1.0) == 2.0
    assert exponent(coefficients, 0.5) == (1 + 3 * 5 + 3 * 7 + 2) / 8


def test_costs_by_hand():
    # coefficients of a line from 0 to log 8 over four steps: factors 1, 2, 4, 8; step 5 is the end
    line = [0.0, math.log(8) / 3, 2 * math.log(8) / 3, math.log(8)]
    errors = {(i, s): float(s - i) for i in range(1, 4) for s in range(i + 1, 5)}
    expected = {(1, 3): 2.0, (1, 4): 2 + 4 * 2, (1, 5): 2 + 8 + 8 * 3, (2, 4): 4.0, (2, 5): 4 + 8 * 2, (3, 5): 8.0}
    assert weighted_costs(errors, line, 4) == pytest.approx(expected)


def test_weights_move_the_computed_steps():
    errors = {(i, s): float(s - i) for i in range(1, 12) for s in range(i + 1, 13)}
    early, late = (
        least_weighted(weighted_costs(errors, weights, 12), 12, 6) for weights in ([10, 0, 0, 0], [0, 0, 0, 10])
    )
    assert early == (1, 2, 3, 4, 5, 8) and late == (1, 7, 9, 10, 11, 12)


def test_the_search_finds_the_weights_that_the_loss_wants():
    """The loss is harm with errors that grow tenfold towards the end, which the errors themselves do not show."""
    errors = {(i, s): float(s - i) for i in range(1, 16) for s in range(i + 1, 17)}
    true = weighted_costs(errors, [0.0, 0.0, 1.0, 6.0], 16)
    scored = []

    def loss(steps):
        scored.append(steps)
        return sum(true.get(pair, 0.0) for pair in zip(steps, (*steps[1:], 17), strict=True))

    found = search_weights(errors, 16, 6, loss)
    best, plain = least_weighted(true, 16, 6), least_weighted(weighted_costs(errors, [0.0] * 4, 16), 16, 6)
    assert len(scored) == len(set(scored)) > 5 and all(len(steps) == 6 for steps in scored)
    assert loss(best) <= loss(found) < 1.1 * loss(best) < loss(plain)
