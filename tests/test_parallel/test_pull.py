"""Who does what: the order of the pull, deaths, retries, and that every piece is done once. No process is started."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.errors.family import WorkersLostError
from opensora_adacache.parallel.executor import Lost, Made, Work
from opensora_adacache.parallel.pull import MOST_ATTEMPTS, MOST_STARTS, Raised, pull

ROOT = Path(__file__).parents[2]
SIMULATION = runpy.run_path(str(ROOT / "scripts" / "experiments" / "simulate_executors.py"))
ClockPool = SIMULATION["ClockPool"]


def pieces(*costs):
    return [Work(f"piece {index}", cost, float(cost)) for index, cost in enumerate(costs)]


def do(work, num_workers, **pool_values):
    """Return the results, the lines about deaths, and the pool."""
    pool, told = ClockPool([piece.item for piece in work], **pool_values), []
    return list(pull(work, pool, num_workers, warn=told.append)), told, pool


def test_the_longest_piece_comes_first_and_a_free_worker_takes_the_next():
    outcomes, told, pool = do(pieces(3, 7, 3, 5, 4), 2)
    # 7 and 5 begin; worker 1 is free at 5 and takes the 4, worker 0 at 7 takes the first 3, worker 1 at 9 the second
    assert pool.log == [(0, 0, 1), (0, 1, 3), (5, 1, 4), (7, 0, 0), (9, 1, 2)]
    assert outcomes == [Made(1, 3), Made(0, 1), Made(1, 4), Made(0, 0), Made(1, 2)]
    assert pool.now == 12 and told == []


def test_pieces_of_equal_cost_stay_in_order_and_no_worker_is_started_in_vain():
    _, _, pool = do(pieces(2, 2, 2), 8)
    assert pool.log == [(0, 0, 0), (0, 1, 1), (0, 2, 2)]


def test_the_piece_of_a_dead_worker_goes_to_the_next_free_one():
    outcomes, told, pool = do(pieces(6, 5, 4, 3), 2, deaths={0: 2.0})
    # worker 2 starts in the place of worker 0, and takes its piece before the two that wait
    assert pool.log == [(0, 0, 0), (0, 1, 1), (2, 2, 0), (5, 1, 2), (8, 2, 3)]
    assert sorted(outcome.result for outcome in outcomes) == [0, 1, 2, 3]
    assert told == ["worker 0 was killed; another worker makes 'piece 0'"]


def test_no_worker_is_replaced_if_an_idle_one_can_do_its_piece():
    outcomes, told, pool = do(pieces(9, 1), 2, deaths={0: 4.0})
    assert pool.log == [(0, 0, 0), (0, 1, 1), (4, 1, 0)] and len(outcomes) == 2 and len(told) == 1


def test_a_piece_that_kills_every_worker_is_given_up_and_the_others_are_done():
    work = pieces(9, 1, 1)
    outcomes, told, pool = do(work, 1, deaths={0: 1.0, 1: 2.0, 2: 3.0})
    assert MOST_ATTEMPTS == 3 < MOST_STARTS  # so that the place is used again
    assert outcomes == [Lost(work[0], "each of 3 workers died, the last one was killed"), Made(3, 1), Made(3, 2)]
    assert told[-1] == "worker 2 was killed; 'piece 0' is given up after 3 attempts" and len(told) == 3


def test_workers_that_cannot_even_begin_end_the_pull():
    class Broken(ClockPool):
        def start(self, worker, place):
            super().start(worker, place)
            self._events.clear()
            self.deaths = {worker: self.now + 1}
            self._add(self.now + 1, SIMULATION["Died"](worker, "ended with status 1"))

    work, told = pieces(1, 1, 1, 1), []
    with pytest.raises(WorkersLostError, match="no worker is left: the last one ended with status 1; 4 of 4 pieces"):
        list(pull(work, Broken([1.0] * 4), 1, warn=told.append))
    assert told == [f"worker {worker} ended with status 1" for worker in range(MOST_STARTS)]


def test_an_exception_of_a_worker_is_raised_with_its_traceback_and_ends_the_others():
    class Failing(ClockPool):
        stopped: list[bool] = []

        def give(self, worker, index):
            if index == 1:
                self._add(self.now, Raised(worker, ValueError("the checkpoint is corrupt"), "\nin file x"))
            else:
                super().give(worker, index)

        def stop(self, finished):
            self.stopped.append(finished)

    pool = Failing([1.0, 1.0])
    with pytest.raises(ValueError, match="corrupt") as caught:
        list(pull(pieces(1, 1), pool, 2))
    assert str(caught.value.__cause__) == "\nin file x" and pool.stopped == [False]


def test_closing_the_outcomes_stops_the_workers_at_once():
    class Watched(ClockPool):
        stopped: list[bool] = []

        def stop(self, finished):
            self.stopped.append(finished)

    pool = Watched([1.0, 1.0])
    outcomes = pull(pieces(1, 1), pool, 1)
    assert next(outcomes) == Made(0, 0)
    outcomes.close()
    assert pool.stopped == [False]


@given(
    costs=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    num_workers=st.integers(1, 5),
    deaths=st.dictionaries(st.integers(0, 12), st.integers(0, 20), max_size=6),
)
def test_every_piece_is_done_once_or_given_up(costs, num_workers, deaths):
    work = pieces(*costs)
    pool = ClockPool([piece.item for piece in work], deaths=deaths)
    made, lost = [], []
    try:
        for outcome in pull(work, pool, num_workers):
            lost.append(outcome.work.name) if isinstance(outcome, Lost) else made.append(outcome.result)
    except WorkersLostError:
        assert len(deaths) >= MOST_STARTS
    else:
        assert sorted([f"piece {index}" for index in made] + lost) == sorted(piece.name for piece in work)
    assert len(set(made)) == len(made)
    for index in range(len(work)):
        assert sum(given == index for _, _, given in pool.log) <= MOST_ATTEMPTS
    if not deaths:  # the bound of any list of pieces, whatever its order
        assert pool.now <= sum(costs) / num_workers + max(costs)
