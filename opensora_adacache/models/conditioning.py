"""What a run tells the model at every step: text, size and speed, worked out once.

Letters: B rows of a batch, V videos, L text tokens, H heads, D features per head, S patches per frame, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNMENT = 8
"""Kernels of masked attention take numbers of keys that are multiples of this."""


@dataclass(frozen=True)
class Conditioning:
    """Everything about a run that an `STDiT3` needs and that no step changes; made by `STDiT3.prepare`.

    Attributes:
        text: keys and values of the text for each block in order of execution, [blocks, 2, B, H, L, D].
        text_mask: bool [B, 1, 1, L], true at real tokens; None when all are.
        fps: embedding of the frames per second [B, C].
        position: position embedding of a frame [S, C], in the dtype of the weights.
        rotary: cosines and sines [T, D / 2] of the frames.
        grid: patches along time, height and width.
    """

    text: Tensor
    text_mask: Tensor | None
    fps: Tensor
    position: Tensor
    rotary: tuple[Tensor, Tensor]
    grid: tuple[int, int, int]

    def check(self, num_rows: int, grid: tuple[int, int, int]) -> None:
        """Raise ValueError unless it was prepared for that many rows and that grid of patches."""
        prepared = (self.fps.shape[0], self.grid)
        if prepared != (num_rows, grid):
            raise ValueError(
                f"the conditioning was prepared for {prepared[0]} rows of {prepared[1]} patches, got {num_rows} rows "
                f"of {grid}; call model.prepare with the arguments of this run"
            )


def trim_text(y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Drop text tokens that no row reads.

    Attention over the tokens left equals masked attention over all of them, so the output of the model changes by
    rounding only. Masks other than ones followed by zeros are kept as they are. This reads the mask on the host: do it
    once per run.

    Args:
        y: text features [B, 1, L, channels].
        mask: 1 at real tokens, [V, L]; None when all are real.

    Returns:
        The tokens up to the longest text and no mask where all texts are equally long; else up to the longest one
        rounded up to a multiple of `ALIGNMENT`, with a mask.

    >>> y, mask = trim_text(torch.zeros(2, 1, 300, 4), (torch.arange(300) < 20).long()[None])
    >>> y.shape, mask
    (torch.Size([2, 1, 20, 4]), None)
    """
    if mask is None:
        return y, None
    real = mask.bool()
    lengths = real.sum(1).tolist()
    longest = max(lengths)
    prefixes = torch.arange(mask.shape[1], device=mask.device) < real.sum(1, keepdim=True)
    if longest == 0 or not torch.equal(real, prefixes):
        return y, mask
    if min(lengths) == longest:
        return y[:, :, :longest], None
    kept = min(-(-longest // ALIGNMENT) * ALIGNMENT, mask.shape[1])
    return y[:, :, :kept], mask[:, :kept]
