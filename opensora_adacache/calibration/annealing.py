"""BudCache's search for the best schedule with a fixed number of computed steps: annealing, then hill climbing.

Source: arXiv 2606.13496 and its published code, whose default constants these are. A schedule is the increasing tuple
of computed steps, counted from 1. The first quarter of the computed steps stays at the beginning of the run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

Schedule = tuple[int, ...]

ANNEALING_ROUNDS = 200
CLIMBING_ROUNDS = 20
# Temperatures are in units of the loss, the mean squared error of final latents, whose variance is about 1.
_HOT, _COLD = 0.05, 1e-5
_NEAR = 3
_NEAR_SHARE = 0.7
_SINGLE_SHARE = 0.9
_JUMPS = 2


def anneal(num_steps: int, num_computed: int, loss: Callable[[Schedule], float], seed: int = 0) -> Schedule:
    """Return the best schedule found. Each schedule is scored once at most.

    Hill climbing begins where annealing ended, and takes the best of all neighbours until none is better.

    Args:
        num_steps: number of steps n.
        num_computed: number of computed steps K, 1..n.
        loss: the harm of a schedule, lower is better.
        seed: seed of the moves.

    >>> anneal(9, 4, lambda steps: sum((step - best) ** 2 for step, best in zip(steps, (1, 3, 6, 9))))
    (1, 3, 6, 9)
    """
    rng, known = random.Random(seed), dict[Schedule, float]()

    def score(schedule: Schedule) -> float:
        if schedule not in known:
            known[schedule] = loss(schedule)
        return known[schedule]

    fixed = num_fixed(num_computed)
    rest = rng.sample(range(fixed + 1, num_steps + 1), num_computed - fixed)
    now = (*range(1, fixed + 1), *sorted(rest))
    score(now)
    if fixed < num_computed < num_steps:
        for round_ in range(ANNEALING_ROUNDS):
            temperature = _HOT * (_COLD / _HOT) ** (round_ / ANNEALING_ROUNDS)
            candidate = moved(now, num_steps, rng)
            worse = score(candidate) - score(now)
            if worse < 0 or rng.random() < math.exp(-worse / temperature):
                now = candidate
        for _ in range(CLIMBING_ROUNDS):
            best = min(neighbours(now, num_steps, rng), key=score, default=now)
            if not score(best) < score(now):
                break
            now = best
    return min(known, key=score)


def num_fixed(num_computed: int) -> int:
    """Return how many first steps always compute.

    >>> [num_fixed(count) for count in (2, 8, 14)]
    [1, 2, 3]
    """
    return max(1, num_computed // 4)


def moved(schedule: Schedule, num_steps: int, rng: random.Random) -> Schedule:
    """Return the schedule with one or, in one of ten moves, two computed steps moved, mostly not far."""
    fixed = num_fixed(len(schedule))
    movable, free = list(schedule[fixed:]), [step for step in range(fixed + 1, num_steps + 1) if step not in schedule]
    if rng.random() < _SINGLE_SHARE or len(movable) < 2 or len(free) < 2:
        leaving = [rng.choice(movable)]
        near = [step for step in free if abs(step - leaving[0]) <= _NEAR]
        coming = [rng.choice(near if near and rng.random() < _NEAR_SHARE else free)]
    else:
        leaving, coming = rng.sample(movable, 2), rng.sample(free, 2)
    return tuple(sorted({*schedule} - {*leaving} | {*coming}))


def neighbours(schedule: Schedule, num_steps: int, rng: random.Random) -> Iterator[Schedule]:
    """Yield the schedules with one computed step moved by at most three steps, and a few with one moved anywhere."""
    fixed = num_fixed(len(schedule))
    places = range(fixed + 1, num_steps + 1)
    for step in schedule[fixed:]:
        near = [place for place in places if abs(place - step) <= _NEAR]
        for place in [*near, *(rng.choice(places) for _ in range(_JUMPS))]:
            if place not in schedule:
                yield tuple(sorted({*schedule} - {step} | {place}))
