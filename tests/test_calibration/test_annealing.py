"""BudCache's search, with known losses."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora_adacache.calibration.annealing import anneal, moved, neighbours, num_fixed

BEST = (1, 2, 5, 6, 9, 10, 11, 14)


def loss(schedule):
    return sum((step - best) ** 2 for step, best in zip(schedule, BEST, strict=True)) / 100


@pytest.mark.parametrize("seed", range(3))
def test_the_best_schedule_is_found(seed):
    assert anneal(14, 8, loss, seed) == BEST


def test_every_schedule_is_scored_once_with_the_budget_and_the_first_steps():
    seen = []

    def note(schedule):
        seen.append(schedule)
        return loss(schedule)

    anneal(14, 8, note)
    assert len(seen) == len(set(seen)) > 20
    assert {len(schedule) for schedule in seen} == {8}
    assert {schedule[:2] for schedule in seen} == {(1, 2)} and num_fixed(8) == 2


@settings(max_examples=30)
@given(st.integers(0, 99), st.data())
def test_moves_and_neighbours_keep_the_budget_and_the_first_steps(seed, data):
    num_steps = data.draw(st.integers(3, 20))
    num_computed = data.draw(st.integers(2, num_steps - 1))
    fixed, rng = num_fixed(num_computed), random.Random(seed)
    rest = data.draw(st.permutations(range(fixed + 1, num_steps + 1)))[: num_computed - fixed]
    schedule = (*range(1, fixed + 1), *sorted(rest))
    changed = moved(schedule, num_steps, rng)
    around = list(neighbours(schedule, num_steps, rng))
    for found in (changed, *around):
        assert len(found) == num_computed and list(found) == sorted(set(found)) and found[-1] <= num_steps
        assert found[:fixed] == schedule[:fixed] and found != schedule
    assert all(len({*found} - {*schedule}) == 1 for found in around)
    near = {tuple(sorted({*schedule} - {a} | {b})) for a, b in itertools.product(rest, range(fixed + 1, num_steps + 1))
            if abs(a - b) <= 3 and b not in schedule}  # fmt: skip
    assert near <= {*around}


@pytest.mark.parametrize(("num_computed", "schedule"), [(1, (1,)), (5, (1, 2, 3, 4, 5))])
def test_a_budget_without_a_choice(num_computed, schedule):
    assert anneal(5, num_computed, lambda steps: 0.0) == schedule
