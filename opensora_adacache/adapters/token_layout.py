"""Where the video tokens are in the tensor that a block takes and returns.

Letters: R batch rows (videos × guidance branches), T frames of S tokens, N = T·S, C channels.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from opensora_adacache.adapters.transformer_adapter import Grid, TransformerAdapter


def take_tokens(
    x: Tensor, adapter: TransformerAdapter, stack: str, num_rows: int, num_text: int, grid: Grid | None
) -> Tensor:
    """Return the video tokens as [R, N, C], frame by frame.

    Args:
        x: tensor of a block.
        adapter: description of the model.
        stack: module list of the block.
        num_rows: R.
        num_text: number of text tokens beside the video tokens, in the lists that `adapter.joined` names.
        grid: token grid of the call, if it is known.
    """
    layout = adapter.layout.get(stack)
    if stack in adapter.joined:
        return x[:, : x.shape[1] - num_text] if adapter.text_last else x[:, num_text:]
    if adapter.history_first and grid is not None:
        return x[:, -prod(grid) :]
    if layout is None:
        return x
    if layout == "sequence":
        return x[None]
    x = x.unflatten(0, (num_rows, -1))
    return (x if layout == "frames" else x.transpose(1, 2)).flatten(1, 2)


def put_tokens(x: Tensor, like: Tensor, adapter: TransformerAdapter, stack: str) -> Tensor:
    """Return video tokens [R, N, C] in the layout of a block, with everything else taken from `like`."""
    layout = adapter.layout.get(stack)
    if stack in adapter.joined and adapter.text_last:
        return torch.cat([x, like[:, x.shape[1] :]], dim=1)
    if stack in adapter.joined or adapter.history_first:
        return torch.cat([like[:, : like.shape[1] - x.shape[1]], x], dim=1)
    if layout is None:
        return x
    if layout == "sequence":
        return x[0]
    if layout == "frames":
        return x.unflatten(1, (-1, like.shape[1])).flatten(0, 1)
    return x.unflatten(1, (like.shape[1], -1)).transpose(1, 2).flatten(0, 1)
