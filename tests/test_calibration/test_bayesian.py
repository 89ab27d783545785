"""Bayesian optimization, on losses of known minima."""

from __future__ import annotations

import numpy as np
import pytest

from opensora_adacache.calibration.bayesian import FIRST_POINTS, minimize, posterior


def test_the_process_goes_through_what_it_has_seen():
    points, losses = np.array([[0.0], [0.5], [1.0]]), np.array([2.0, -1.0, 3.0])
    mean, deviation = posterior(points, losses, np.array([[0.0], [0.5], [0.25]]))
    assert mean[:2] == pytest.approx([2.0, -1.0], abs=0.01) and -1 < mean[2] < 2
    assert max(deviation[:2]) < 0.05 < deviation[2]


def test_a_loss_that_is_constant_says_nothing():
    mean, _ = posterior(np.array([[0.0], [1.0]]), np.array([4.0, 4.0]), np.array([[0.3]]))
    assert mean == pytest.approx([4.0])


def test_the_first_points_are_the_same_for_all_losses_and_cover_the_cube():
    seen = []
    minimize(lambda point: seen.append(point) or 0.0, 4, FIRST_POINTS)
    assert len(seen) == FIRST_POINTS
    for dimension in np.array(seen).T:  # one in each sixteenth
        assert sorted(np.floor(dimension * FIRST_POINTS)) == list(range(FIRST_POINTS))


def test_the_minimum_is_approached_in_few_rounds():
    best = np.array([0.2, 0.8, 0.5, 0.9])

    def loss(point):
        return float(((point - best) ** 2).sum())

    assert loss(minimize(loss, 4, 40)) < 0.05 < loss(minimize(loss, 4, FIRST_POINTS))
