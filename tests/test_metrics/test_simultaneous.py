"""Intervals for many differences at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from opensora_adacache.metrics.bootstrap import bootstrap_interval
from opensora_adacache.metrics.simultaneous import Sample, simultaneous_intervals


def test_one_comparison_is_about_the_plain_bootstrap():
    values = np.random.default_rng(0).normal(1.0, 2.0, 60).tolist()
    clusters = [i // 2 for i in range(60)]
    (found,) = simultaneous_intervals([Sample(clusters, {"a": values})])
    alone = bootstrap_interval(values, clusters)
    assert found["a"].mean == pytest.approx(alone.mean)
    assert (found["a"].low, found["a"].high) == pytest.approx((alone.low, alone.high), abs=0.1)


def test_they_hold_together_in_most_experiments():
    """20 independent differences of mean 0: single intervals would all hold in 36 % of the experiments."""
    generator, hold = np.random.default_rng(1), 0
    for _ in range(50):
        differences = {i: generator.normal(0.0, 1.0, 60).tolist() for i in range(20)}
        samples = [Sample(list(range(60)), {i: differences[i] for i in part}) for part in (range(10), range(10, 20))]
        found = simultaneous_intervals(samples, num_resamples=500)
        hold += all(one.low < 0 < one.high for intervals in found for one in intervals.values())
    assert 43 <= hold <= 50


def test_videos_that_are_left_out_and_differences_that_do_not_vary():
    sample = Sample([0, 0, 1, 2], {"a": [1.0, math.nan, 2.0, 3.0], "same": [2.0] * 4})
    (found,) = simultaneous_intervals([sample])
    assert found["a"].mean == 2.0 and found["a"].low < 2.0
    assert (found["same"].mean, found["same"].low) == (2.0, None)


@pytest.mark.parametrize(("values", "message"), [([1.0], "one difference for each of 2"), ([math.nan] * 2, "no video")])
def test_mistakes(values, message):
    with pytest.raises(ValueError, match=message):
        simultaneous_intervals([Sample([0, 1], {"a": values})])
