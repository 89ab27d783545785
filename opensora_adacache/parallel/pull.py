"""Workers pull the next piece of work when they are free, the most expensive one first.

A fixed division leaves workers idle, because cached videos take different times. Beginning with the longest work is
the LPT rule: if the costs are right, the last worker ends within 4/3 of the best possible time (Graham 1969, Bounds on
Multiprocessing Timing Anomalies).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from opensora_adacache.errors.family import WorkersLostError
from opensora_adacache.errors.shown import counted
from opensora_adacache.parallel.executor import Lost, Made, Outcomes, Work

# How often a piece of work is begun. A piece that kills its worker, for example by its memory, must not kill them all.
MOST_ATTEMPTS = 3
# How many workers are started in one place without any of them finishing a piece of work.
MOST_STARTS = 5


@dataclass(frozen=True)
class Ready:
    """A worker has loaded what it needs. `where` names its process and machine."""

    worker: int
    where: str


@dataclass(frozen=True)
class Done:
    """A worker has finished its piece of work."""

    worker: int


@dataclass(frozen=True)
class Died:
    """A worker has ended without being told to. `reason` says how, as in "was killed by SIGKILL"."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Raised:
    """A worker has raised an exception; `trace` is its traceback as text."""

    worker: int
    error: BaseException
    trace: str


Event = Ready | Made[Any] | Done | Died | Raised


class WorkerTraceback(Exception):
    """The traceback of an exception that a worker raised, shown as its cause."""


class Pool(Protocol):
    """Workers, numbered in the order in which they are started, and their messages."""

    def start(self, worker: int, place: int) -> None:
        """Start a worker in a place, such as a GPU. `Ready` follows."""

    def give(self, worker: int, index: int) -> None:
        """Give a ready worker the piece of work with this index. Its results follow, then `Done`."""

    def wait(self) -> Event:
        """Wait for the next message of any worker."""

    def stop(self, finished: bool) -> None:
        """End all workers: in order if the work is finished, else at once."""


def pull(
    work: Sequence[Work[Any]],
    pool: Pool,
    num_workers: int,
    say: Callable[[str], object] = lambda line: None,
    warn: Callable[[str], object] = lambda line: None,
) -> Outcomes:
    """Do the work with a pool of workers. See `Executor.run`.

    Args:
        work: pieces of work.
        pool: where the workers run.
        num_workers: largest number of workers at a time.
        say: function that is called with one line for each worker that is ready.
        warn: function that is called with one line for each worker that dies.
    """
    finished = False
    try:
        yield from _Pull(work, pool, say, warn).run(num_workers)
        finished = True
    finally:
        pool.stop(finished)


class _Pull:
    """The state of a pull: what waits, who does what, and what went wrong how often."""

    def __init__(
        self, work: Sequence[Work[Any]], pool: Pool, say: Callable[[str], object], warn: Callable[[str], object]
    ) -> None:
        self._work, self._pool, self._say, self._warn = work, pool, say, warn
        # Pieces of equal cost stay in the order given.
        self._waiting = deque(sorted(range(len(work)), key=lambda index: -work[index].cost))
        self._attempts: Counter[int] = Counter()
        self._busy: dict[int, int] = {}  # worker -> index of its piece
        self._idle: deque[int] = deque()
        self._places: dict[int, int] = {}  # of the workers that are alive
        self._starts: Counter[int] = Counter()  # in each place, since a piece was finished there
        self._num_started = 0

    def run(self, num_workers: int) -> Outcomes:
        for place in range(min(num_workers, len(self._work))):
            self._start(place)
        while self._waiting or self._busy:
            event = self._pool.wait()
            if isinstance(event, Made):
                yield event
            elif isinstance(event, Raised):
                raise event.error from WorkerTraceback(event.trace)
            elif isinstance(event, Died):
                yield from self._bury(event)
            elif isinstance(event, Ready):
                self._say(f"worker {event.worker}: {event.where}")
                self._idle.append(event.worker)
            else:
                del self._busy[event.worker]
                self._starts[self._places[event.worker]] = 0
                self._idle.append(event.worker)
            self._give()

    def _start(self, place: int) -> None:
        worker = self._num_started
        self._num_started += 1
        self._places[worker] = place
        self._starts[place] += 1
        self._pool.start(worker, place)

    def _give(self) -> None:
        while self._waiting and self._idle:
            worker, index = self._idle.popleft(), self._waiting.popleft()
            self._busy[worker] = index
            self._attempts[index] += 1
            self._pool.give(worker, index)

    def _bury(self, event: Died) -> Iterator[Lost[Any]]:
        """Take out a worker that died, put its piece back, and start another worker in its place if one is needed."""
        place, index = self._places.pop(event.worker), self._busy.pop(event.worker, None)
        if event.worker in self._idle:
            self._idle.remove(event.worker)
        line = f"worker {event.worker} {event.reason}"
        if index is not None:
            piece = self._work[index]
            if self._attempts[index] < MOST_ATTEMPTS:
                self._waiting.appendleft(index)
                line += f"; another worker makes '{piece.name}'"
            else:
                line += f"; '{piece.name}' is given up after {MOST_ATTEMPTS} attempts"
                yield Lost(piece, f"each of {MOST_ATTEMPTS} workers died, the last one {event.reason}")
        self._warn(line)
        if len(self._waiting) > len(self._idle) and self._starts[place] < MOST_STARTS:
            self._start(place)
        if self._waiting and not self._places:
            left = f"{len(self._waiting)} of {counted(len(self._work), 'piece')} of work"
            raise WorkersLostError(
                f"no worker is left: the last one {event.reason}; {left} remain; free memory or pass fewer --workers, "
                "then run the same command again"
            )
