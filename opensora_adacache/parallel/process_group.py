"""Distributes the videos of a run over the processes that torchrun started.

Every process holds the whole model. The group exchanges plain Python objects, a few times per run; processes that split
a video between them form a team (`parallel.team`). A single process needs no group and does not import
torch.distributed.
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
    """This process within the group of processes of the run.

    Attributes:
        rank: index of this process, from 0.
        world_size: number of processes.
        local_rank: index of this process on its machine, which is also the index of its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which acts and prints for the whole group."""
        return self.rank == 0

    def share(self, items: Sequence[_Item], team_size: int = 1) -> list[_Item]:
        """Return this process's part of `items`; each item is assigned to one team of consecutive processes.

        >>> ProcessGroup(rank=1, world_size=2).share(["a", "b", "c", "d", "e"])
        ['b', 'd']
        >>> ProcessGroup(rank=1, world_size=4).share(["a", "b", "c", "d", "e"], team_size=2)
        ['a', 'c', 'e']
        """
        return list(items[self.rank // team_size :: self.world_size // team_size])

    def broadcast(self, value: _Item) -> _Item:
        """Return the value that rank 0 passed."""
        if self.world_size == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def on_first(self, function: Callable[[], _Item]) -> _Item:
        """Call a function on rank 0 only; every process returns its result or raises its error."""
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
        """Return the values that all processes passed, by rank. Waits for all processes."""
        if self.world_size == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Join the group that torchrun's environment describes; without one, this process is on its own.

    gloo exchanges the objects on CPUs; with GPUs, nccl is also set up for their tensors.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "LOCAL_RANK" not in os.environ:
        yield ProcessGroup()
        return
    # torch would print the stack of each process that loses a connection; `watch` prints one line
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    import torch
    from torch import distributed

    local_rank = int(os.environ["LOCAL_RANK"])
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    # A process that has finished waits for the others, no matter how long they take.
    distributed.init_process_group(backend, timeout=timedelta(weeks=1))
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size(), local_rank)
    finally:
        distributed.destroy_process_group()
