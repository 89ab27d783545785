"""How much a residual changed between two computed steps.

R rows of a batch, N tokens, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def change_sums(old: Tensor, new: Tensor) -> Tensor:
    """Return per row ‖new − old‖₁ and ‖old‖₁: two residuals [R, N, C] → float32 [R, 2], on their device.

    Sums rather than a ratio, so that rows can be pooled: over a batch, over the guidance halves of a video.
    """
    return torch.stack([l1_norm(new - old), l1_norm(old)], dim=-1)


def l1_norm(x: Tensor) -> Tensor:
    """Return the sum of magnitudes of each row in float32: [R, N, C] → [R]."""
    return torch.linalg.vector_norm(x, ord=1, dim=(1, 2), dtype=torch.float32)


def relative_change(change: float, norm: float, rate: int) -> float:
    """Return the distance c = ‖new − old‖₁ / ‖old‖₁ / rate.

    The paper divides by the steps since the last computed one; the reference, followed here, by the rate in force,
    which is larger where a forced step cuts a rate short. A residual that was zero and stays zero did not change: 0.

    >>> relative_change(1.0, 4.0, 2)
    0.125
    """
    if norm == 0:
        return 0.0 if change == 0 else math.inf
    return change / norm / rate
