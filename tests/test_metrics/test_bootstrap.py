"""Bootstrap intervals over prompts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.metrics.bootstrap import Interval, bootstrap_difference, bootstrap_interval

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=12)
FEW = {"num_resamples": 200}


def test_two_values_by_hand():
    # Means of two draws: 0, 0.5, 0.5, 1 with equal probability, so both ends are in the tails of 25 %.
    assert bootstrap_interval([0.0, 1.0]) == Interval(0.5, 0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], confidence=0.2) == Interval(0.5, 0.5, 0.5)


def test_of_normal_values_it_is_the_textbook_interval():
    values = np.random.default_rng(1).normal(30, 2, size=100)
    interval = bootstrap_interval(values)
    error = 1.96 * values.std() / 10
    assert interval.low == pytest.approx(interval.mean - error, abs=0.05)
    assert interval.high == pytest.approx(interval.mean + error, abs=0.05)


def test_it_covers_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        interval = bootstrap_interval(draw.normal(0, 1, size=40), **FEW)
        hits += interval.low <= 0 <= interval.high
    assert 180 <= hits <= 198


@given(VALUES)
def test_ends_lie_among_the_values_and_around_each_other(values):
    interval = bootstrap_interval(values, **FEW)
    assert interval.mean == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    narrow = bootstrap_interval(values, confidence=0.5, **FEW)
    assert interval.low <= narrow.low <= narrow.high <= interval.high


@given(VALUES, st.floats(0.1, 10), st.floats(-50, 50))
def test_it_moves_and_scales_with_the_values(values, scale, shift):
    one = bootstrap_interval(values, **FEW)
    other = bootstrap_interval([scale * value + shift for value in values], **FEW)
    assert (other.low, other.high) == pytest.approx((scale * one.low + shift, scale * one.high + shift), abs=1e-6)


@given(VALUES, st.integers(1, 4))
def test_more_seeds_of_a_prompt_tell_nothing_of_other_prompts(values, num_seeds):
    clusters = [f"prompt {index}" for index in range(len(values)) for _ in range(num_seeds)]
    one = bootstrap_interval(values, **FEW)
    other = bootstrap_interval(np.repeat(values, num_seeds), clusters, **FEW)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))


def test_prompts_with_unequal_numbers_of_videos_by_hand():
    # Draws (a, a), (a, b), (b, a), (b, b) have means 4, (8 + 1) / 3 and 1.
    assert bootstrap_interval([4.0, 4.0, 1.0], ["a", "a", "b"]) == Interval(3.0, 1.0, 4.0)


def test_one_prompt_has_no_interval():
    assert bootstrap_interval([1.0, 2.0], ["a", "a"]) == Interval(1.5, None, None)


def test_a_small_difference_shows_when_paired():
    hard = np.random.default_rng(3).normal(30, 5, size=40)
    better = hard + np.random.default_rng(4).normal(0.5, 0.2, size=40)
    one, other = bootstrap_interval(hard), bootstrap_interval(better)
    assert one.high > other.low  # unpaired, the difference is invisible
    paired = bootstrap_difference(better, hard)
    assert 0.4 < paired.low < paired.mean < paired.high < 0.6
    assert bootstrap_difference(hard, hard) == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "at least one value"),
        (([1.0, float("nan")],), "must be finite, got nan"),
        (([1.0, 2.0], ["a"]), "one cluster for each of 2 values, got 1"),
        (([1.0, 2.0], None, 95), "between 0 and 1, got 95"),
        (([1.0, 2.0], None, 0.95, 0), "at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(*arguments)
    with pytest.raises(ValueError, match="same videos, got 2 and 1"):
        bootstrap_difference([1.0, 2.0], [1.0])
