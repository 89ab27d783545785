"""Share the videos of a run between the processes that torchrun started.

Data parallel: every process has the whole model and makes whole videos. Nothing is exchanged but plain Python
objects, a few times per run. A single process needs no group, and torch.distributed is not imported then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of the run.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.
        local_rank: number of this process on its machine, which is also that of its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def share(self, items: Sequence[_Item]) -> list[_Item]:
        """Return this process's part of `items`: every item falls to exactly one process.

        >>> ProcessGroup(rank=1, world_size=2).share(["a", "b", "c", "d", "e"])
        ['b', 'd']
        """
        return list(items[self.rank :: self.world_size])

    def broadcast(self, value: _Item) -> _Item:
        """Return what the first process passed."""
        if self.world_size == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def on_first(self, function: Callable[[], _Item]) -> _Item:
        """Call a function on the first process alone; every process returns its result or raises its error."""
        outcome: _Item | None = None
        error: Exception | None = None
        if self.is_first:
            try:
                outcome = function()
            except Exception as raised:
                error = raised
        outcome, error = self.broadcast((outcome, error))
        if error is not None:
            raise error
        return outcome  # type: ignore[return-value]

    def gather(self, value: _Item) -> list[_Item]:
        """Return what every process passed, by rank; waits for all."""
        if self.world_size == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Join the group that torchrun's environment describes; without one this process is alone.

    gloo carries the objects on CPUs; with GPUs nccl stands by for tensors on them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "LOCAL_RANK" not in os.environ:
        yield ProcessGroup()
        return
    import torch
    from torch import distributed

    local_rank = int(os.environ["LOCAL_RANK"])
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    # A process that has finished waits for the others, however long they take.
    distributed.init_process_group(backend, timeout=timedelta(weeks=1))
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size(), local_rank)
    finally:
        distributed.destroy_process_group()
