"""Inputs of the model that are the same at every step of a run (text, size and speed), computed once.

Letters: B batch rows, V videos, L text tokens, H heads, D features per head, S patches per frame, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

ALIGNMENT = 8
"""Kernels for masked attention require the number of keys to be a multiple of this."""


@dataclass(frozen=True)
class Conditioning:
    """Everything that an `STDiT3` needs to know about a run and that no step changes; created by `STDiT3.prepare`.

    Attributes:
        text: keys and values of the text for each block in order of execution, [blocks, 2, B, H, L, D].
        text_mask: bool [B, 1, 1, L], true for real tokens; None if all tokens are real.
        fps: embedding of the frames per second [B, C].
        position: position embedding of a frame [S, C], in the dtype of the weights.
        rotary: cosines and sines [T, D / 2] of the frames.
        grid: number of patches along time, height and width.
    """

    text: Tensor
    text_mask: Tensor | None
    fps: Tensor
    position: Tensor
    rotary: tuple[Tensor, Tensor]
    grid: tuple[int, int, int]

    def part(self, rows: slice | Tensor, frames: slice) -> Conditioning:
        """Return what a call on some of the rows and frames needs; `rotary` still covers all frames."""
        mask = None if self.text_mask is None else self.text_mask[rows]
        grid = (frames.stop - frames.start, *self.grid[1:])
        return replace(self, text=self.text[:, :, rows], text_mask=mask, fps=self.fps[rows], grid=grid)

    def check(self, num_rows: int, grid: tuple[int, int, int]) -> None:
        """Raise ValueError unless this was prepared for this many rows and this grid of patches."""
        prepared = (self.fps.shape[0], self.grid)
        if prepared != (num_rows, grid):
            raise ValueError(
                f"the conditioning was prepared for {prepared[0]} rows of {prepared[1]} patches, got {num_rows} rows "
                f"of {grid}; call model.prepare with the arguments of this run"
            )


def trim_text(y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Drop text tokens that no row reads.

    Attention over the remaining tokens equals masked attention over all of them, so the output of the model changes by
    rounding only. Masks other than ones followed by zeros are left unchanged. This reads the mask on the host, so call
    it once per run.

    Args:
        y: text features [B, 1, L, channels].
        mask: 1 for real tokens, [V, L]; None if all are real.

    Returns:
        If all texts have the same length: their tokens, and None as the mask. Otherwise: the tokens up to the longest
        text, rounded up to a multiple of `ALIGNMENT`, and a mask.

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
