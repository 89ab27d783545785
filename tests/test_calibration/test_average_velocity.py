"""MeanCache's costs of intervals and its plans, on trajectories of known residuals."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from opensora_adacache.caching.policies.meancache import MeanCacheConfig
from opensora_adacache.calibration.average_velocity import AverageVelocities, interval_errors

START = MeanCacheConfig(steps=(1,), spans=(1,), lengths=(1.0,))


def products_of(values):
    column = np.array(values, dtype=float)[:, None]
    return column @ column.T


def runs_of(values):
    n = len(values)
    lengths = dict.fromkeys(range(1, n + 1), 1 / n)
    return SimpleNamespace(num_steps=n, products=[products_of(values)], step_lengths=lengths, longest_gap=3, jobs=[0])


def test_errors_of_intervals_by_hand():
    found = interval_errors([products_of([0.0, 4.0, 5.0, 7.0])], [1.0] * 4, 3)
    assert found.keys() == {(1, 3), (1, 4), (2, 4)}
    # reuse of 0 for 4, over two steps; of 0 for 4 and 5, over three
    assert found[1, 3] == (pytest.approx(2.0), 1) and found[1, 4] == (pytest.approx(3.0), 1)
    # a span of two forecasts 4 + (2 − 0)/2 = 5, which is right
    assert found[2, 4] == (pytest.approx(0.0, abs=1e-6), 2)


def test_errors_weigh_steps_by_their_lengths():
    # 0 in place of 4 in a step of length 3, after one of length 1
    assert interval_errors([products_of([0.0, 4.0, 0.0])], [1.0, 3.0, 1.0], 2)[1, 3][0] == pytest.approx(3.0)


def test_errors_are_means_over_videos():
    videos = [products_of([0.0, 4.0, 0.0]), products_of([0.0, 2.0, 0.0])]
    assert interval_errors(videos, [1.0] * 3, 2)[1, 3] == (pytest.approx(1.5), 1)


def test_a_plan_suppresses_peaks():
    """Skipping steps 3 and 4 together costs more than skipping two steps apart, because costs are fourth powers."""
    runs = runs_of([0.0, 0.0, 1.0, 2.0, 2.0, 1.5, 2.0])
    found = AverageVelocities(runs).plan(START, 5)
    assert found.steps[0] == 1 and found.steps[-1] == 7 and len(found.steps) == len(found.spans) == 5
    # step 2 equals step 1, step 5 equals step 4: reuse of both is free
    assert found.steps == (1, 3, 4, 6, 7) and found.spans == (1, 1, 1, 1, 1)
    assert found.lengths == pytest.approx((1 / 7,) * 7, rel=1e-5)
    found.check_run(7, 1)


def test_spans_go_with_their_intervals():
    # only a span of two forecasts step 3 without error, and nothing forecasts step 4
    found = AverageVelocities(runs_of([0.0, 4.0, 5.0, -9.0, 30.0])).plan(START, 4)
    assert found.steps == (1, 2, 4, 5) and found.spans == (1, 2, 1, 1)


def test_each_number_of_computed_steps_has_a_plan():
    kind = AverageVelocities(runs_of(np.random.default_rng(0).normal(size=10)))
    counts = [len(settings.steps) for settings in kind.family(START)]
    assert counts == list(range(10, 3, -1))
