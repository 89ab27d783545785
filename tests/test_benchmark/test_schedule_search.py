"""The search for the best schedules, with known qualities."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.benchmark.schedule_search import best_per_video, best_static, even_schedule, moved

STEPS = 8
# The best schedule of each of three videos. The quality is the number of its steps that a schedule computes.
WANTED = [(1, 2, 3, 4), (1, 2, 3, 8), (1, 2, 3, 7)]


def score(schedules):
    return [float(len(set(schedule) & set(best))) for schedule, best in zip(schedules, WANTED, strict=True)]


@given(st.integers(2, 100), st.data())
def test_even_schedules_begin_with_the_first_and_end_with_the_last_step(num_steps, data):
    num_computed = data.draw(st.integers(2, num_steps))
    steps = even_schedule(num_steps, num_computed)
    gaps = {late - early for early, late in zip(steps, steps[1:], strict=False)}
    assert (steps[0], steps[-1], len(steps)) == (1, num_steps, num_computed)
    assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


@given(st.data())
def test_a_move_changes_one_step_but_never_the_first(data):
    num_steps = data.draw(st.integers(3, 30))
    rest = data.draw(st.sets(st.integers(2, num_steps), min_size=1, max_size=num_steps - 2))
    schedule = (1, *sorted(rest))
    found = moved(schedule, num_steps, random.Random(data.draw(st.integers(0, 99))))
    assert found[0] == 1 and list(found) == sorted(set(found)) and found[-1] <= num_steps
    assert len(found) == len(schedule) and len(set(found) - set(schedule)) == 1


def test_the_best_static_schedule_and_the_best_of_each_video():
    static, qualities = best_static([(1, 5, 6, 7), (1, 4, 5, 6)], 3, STEPS, score, rounds=60)
    assert set(static) >= {1, 2, 3} and sum(qualities) == 10  # one of the videos has all four
    schedules, found = best_per_video([static] * 3, qualities, STEPS, score, rounds=60)
    assert schedules == WANTED and found == [4.0] * 3


def test_without_rounds_the_best_start_is_returned():
    assert best_static([(1, 5, 6, 7), (1, 2, 5, 6)], 3, STEPS, score, rounds=0) == ((1, 2, 5, 6), [2.0, 2.0, 2.0])
    assert best_per_video([(1, 5, 6, 8)] * 3, [1.0, 2.0, 1.0], STEPS, score, rounds=0)[1] == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("schedule", [(1,), tuple(range(1, STEPS + 1))])
def test_a_schedule_that_cannot_move_stays(schedule):
    assert best_static([schedule], 3, STEPS, score, rounds=3)[0] == schedule
    assert best_per_video([schedule] * 3, [0.0] * 3, STEPS, score, rounds=3)[0] == [schedule] * 3
