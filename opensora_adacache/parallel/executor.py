"""Executors: how the work of a run reaches the processes that do it.

An executor gets pieces of work and a factory of the function that does a piece, and yields what comes back. It knows
neither videos nor models:

- `InProcess` does the work here; of several processes that torchrun started, each does a fixed part.
- `LocalExecutor` (`parallel.local`) starts worker processes on this machine, which pull the next piece when they are
  free.
- `RayExecutor` (`parallel.on_ray`) does the same with actors of a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from opensora_adacache.parallel.process_group import ProcessGroup

Item = TypeVar("Item")
Result = TypeVar("Result")

# Does items, one after the other, and yields their results, which are small: large ones belong in files.
Maker = Callable[[Iterable[Item]], Iterator[Result]]
# Called once in each process with every item that the process may get and the index of its GPU. The context holds what
# all items need, such as loaded models. Worker processes get the factory by pickle.
MakerFactory = Callable[[Sequence[Item], int], AbstractContextManager[Maker[Item, Result]]]


@dataclass(frozen=True)
class Work(Generic[Item]):
    """A piece of work, which one process does from start to end.

    Attributes:
        name: its name in messages.
        cost: expected cost, in any unit. Workers begin with the most expensive pieces.
        item: what the maker gets.
    """

    name: str
    cost: float
    item: Item


@dataclass(frozen=True)
class Made(Generic[Result]):
    """One result, and the number of the process that made it."""

    worker: int
    result: Result


@dataclass(frozen=True)
class Lost(Generic[Item]):
    """A piece of work that was given up, because the processes that tried it died."""

    work: Work[Item]
    reason: str


# What an executor yields. Closing it ends the workers.
Outcomes = Generator[Made[Any] | Lost[Any], None, None]


class Executor(Protocol):
    """Does work. `run` may be called again after it has ended."""

    def run(self, work: Sequence[Work[Any]], factory: MakerFactory[Any, Any]) -> Outcomes:
        """Do all work and yield every result as soon as it is there.

        The order of the results is open, except that those of one piece come in the order in which the maker yields
        them. If a worker dies, its piece is done again from the beginning, so a maker must find out for itself what
        is already done.

        Args:
            work: pieces of work.
            factory: returns the maker.

        Raises:
            WorkersLostError: every worker died.
            Exception: whatever the factory or a maker raises. It ends all workers.
        """


@dataclass(frozen=True)
class InProcess:
    """Does the work in this process. The processes of a group divide it in a fixed way.

    Attributes:
        group: the processes that share the work.
        team_size: number of consecutive processes that do each piece together.
    """

    group: ProcessGroup
    team_size: int = 1

    def run(self, work: Sequence[Work[Item]], factory: MakerFactory[Item, Result]) -> Outcomes:
        """Do this process's part of the work, in the order given. See `Executor.run`."""
        share = self.group.share(work, self.team_size)
        if not share:
            return
        with factory([piece.item for piece in share], self.group.local_rank) as make:
            for result in make(piece.item for piece in share):
                yield Made(self.group.rank, result)
