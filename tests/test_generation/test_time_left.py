"""The time left: reused steps are shorter, and which steps compute is planned, seen before, or guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora_adacache.generation.time_left import TimeLeft


def run(left, computed, reused_seconds=1.0, computed_seconds=5.0):
    left.begin_batch()
    for share in computed:
        left.add_step(share, reused_seconds + (computed_seconds - reused_seconds) * share)


def test_nothing_is_known_before_the_first_step():
    assert TimeLeft([True, False]).seconds(2, 1, 3) is None


def test_a_planned_schedule_is_used_from_the_first_video_on():
    left = TimeLeft([True, True, False, True])
    run(left, [1])
    assert left.seconds(4, 1, 1) == 3 * 5 + 4 * 5  # no reused step was measured
    run(left, [1, 1, 0])
    assert left.seconds(4, 1, 1) == pytest.approx(5 + (5 + 5 + 1 + 5))
    assert left.seconds(4, 3, 0) == pytest.approx(3 * 5)  # three videos together


def test_a_schedule_of_the_policy_is_expected_from_the_videos_before():
    left = TimeLeft()
    run(left, [1, 1, 0])
    # two of three steps computed until now, so the others are taken to compute in the same proportion
    mixed = 1 + 4 * 2 / 3
    assert left.seconds(5, 1, 0) == pytest.approx(2 * mixed)
    run(left, [1, 1, 0, 0, 1])
    left.end_batch()
    run(left, [1, 0, 0, 0, 1])
    left.end_batch()
    run(left, [1])
    # by step: 1, then 1/2, 0, 0, 1
    assert left.seconds(5, 1, 0) == pytest.approx(3 + 1 + 1 + 5)
    assert left.seconds(5, 1, 2) == pytest.approx(10 + 2 * 15)


def test_the_first_step_counts_only_while_it_is_the_only_one():
    left = TimeLeft()
    left.add_step(1, 60.0)
    assert left.seconds(3, 1, 0) == 120
    left.add_step(1, 2.0)
    assert left.seconds(3, 1, 0) == 2


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 3), st.floats(0, 9))
def test_durations_on_a_line_are_found_again(shares, reused, difference):
    """Of any mixture of steps, also where a part of the videos of a batch computes."""
    left = TimeLeft([True, False])
    run(left, [1, 1, 0, *shares], reused, reused + difference)
    left.begin_batch()
    assert left.seconds(2, 1, 0) == pytest.approx(2 * reused + difference, abs=1e-6)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100)), min_size=1, max_size=20))
def test_no_time_is_negative(steps):
    left = TimeLeft([False, True, False])
    for share, seconds in steps:
        left.add_step(share, seconds)
    left.begin_batch()
    assert left.seconds(3, 2, 1) >= -1e-6
