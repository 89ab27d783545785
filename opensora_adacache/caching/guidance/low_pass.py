"""The low spatial frequencies of a model's output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RADIUS = 5
"""Low frequencies lie within 1 / RADIUS of the shorter side of the picture."""


def low_frequencies(x: Tensor, axes: Sequence[int] = (-2, -1)) -> Tensor:
    """Return the part of x with low frequencies along two axes, in float32.

    Args:
        x: real, with pictures along two of its axes.
        axes: these two.

    >>> x = torch.tensor([1.0, -1.0]).repeat(4, 4) + 3
    >>> low_frequencies(x).unique()
    tensor([3.])
    """
    height, width = (x.shape[axis] for axis in axes)
    across = torch.fft.fftfreq(height, 1 / height, device=x.device)[:, None]
    along = torch.fft.rfftfreq(width, 1 / width, device=x.device)
    mask = across**2 + along**2 <= (min(height, width) // RADIUS) ** 2
    x = x.float().movedim(tuple(axes), (-2, -1))
    low = torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=(height, width))
    return low.movedim((-2, -1), tuple(axes))
