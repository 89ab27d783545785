"""Work for the tests of executors, in a module of its own because worker processes import it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from opensora_adacache.errors.family import CheckpointError
from opensora_adacache.parallel.executor import Maker, Work

WORK = [Work(f"number {number}", 1.0, number) for number in range(8)]


@dataclass(frozen=True)
class Made:
    """A square, and who computed it."""

    square: int
    process: int
    node: str
    num_threads: str | None


@dataclass(frozen=True)
class Squares:
    """Squares numbers and writes each into a folder.

    Attributes:
        folder: where each number leaves a file, with one line for each time that it was made.
        kill: the number before which the process is killed by SIGKILL: the first time, or always if `always`.
        always: see `kill`.
        raises: the number that raises an error.
        broken: whether the process ends before it makes anything.
        delay: seconds that each number takes.
    """

    folder: Path
    kill: int | None = None
    always: bool = False
    raises: int | None = None
    broken: bool = False
    delay: float = 0.0

    @contextlib.contextmanager
    def __call__(self, items: Sequence[int], gpu: int) -> Iterator[Maker[int, Made]]:
        if self.broken:
            os._exit(7)

        def make(numbers: Iterable[int]) -> Iterator[Made]:
            for number in numbers:
                if number == self.raises:
                    raise CheckpointError("the checkpoint is corrupt")
                killed = self.folder / "killed"
                if number == self.kill and (self.always or not killed.exists()):
                    killed.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(self.delay)
                with open(self.folder / str(number), "a") as file:
                    file.write(f"{os.getpid()}\n")
                yield Made(number**2, os.getpid(), _node(), os.environ.get("OMP_NUM_THREADS"))

        yield make


def _node() -> str:
    """Return the node of a Ray cluster that this process belongs to, which may share a machine with others."""
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().get_node_id() if ray else socket.gethostname()
