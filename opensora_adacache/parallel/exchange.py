"""The collectives of sequence parallelism.

Nothing is padded: if n processes do not divide a size, their parts differ by one (`portions`). All processes know the
parts beforehand, so no sizes are sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def exchange(
    x: Tensor, cut: int, cut_sizes: Sequence[int], joined: int, joined_sizes: Sequence[int], group: ProcessGroup
) -> Tensor:
    """Send each process its part of x along one axis; return what all of them sent, joined along another axis.

    Args:
        x: this process's tensor.
        cut: axis that is cut; process i gets part i.
        cut_sizes: sizes of the parts along that axis.
        joined: axis along which the received parts are joined.
        joined_sizes: for each process, the size of its tensor along that axis.
        group: the processes.
    """
    mine = distributed.get_rank(group)
    shapes = []
    for size in joined_sizes:
        shape = list(x.shape)
        shape[cut], shape[joined] = cut_sizes[mine], size
        shapes.append(shape)
    parts = x.split(list(cut_sizes), cut)
    sent = torch.cat([part.reshape(-1) for part in parts])
    num_received = [math.prod(shape) for shape in shapes]
    received = x.new_empty(sum(num_received))
    distributed.all_to_all_single(received, sent, num_received, [part.numel() for part in parts], group=group)
    pieces = received.split(num_received)
    return torch.cat([piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)], joined)


def gather(x: Tensor, group: ProcessGroup) -> Tensor:
    """Return the tensors of all processes, which have the same shape, one after the other: [processes, …]."""
    gathered = x.new_empty(distributed.get_world_size(group), *x.shape)
    # torch 2.13 has renamed it
    function = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
    function(gathered.flatten(0, 1) if x.dim() else gathered, x.contiguous(), group=group)
    return gathered
