"""Motion in a residual, and how MoReg turns it into a factor of the distance. AdaCache paper, section 4.2.

R rows of a batch, T frames of S tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opensora_adacache.caching.distance import l1_norm


def motion_sums(residual: Tensor, num_frames: int, strides: Sequence[int]) -> Tensor:
    """Return per row and stride i the sums behind motion.

    Args:
        residual: [R, T·S, C].
        num_frames: T.
        strides: frame distances, each at least 1.

    Returns:
        float32 [R, len(strides), 2]: ‖p[i:] − p[:−i]‖₁ and ‖p[i:]‖₁ + ‖p[:−i]‖₁ along frames; zeros for a stride
        that reaches beyond the last frame.
    """
    tokens = residual.shape[1] // num_frames
    sums = []
    for stride in strides:
        late, early = residual[:, stride * tokens :], residual[:, : max(num_frames - stride, 0) * tokens]
        sums.append(torch.stack([l1_norm(late - early), l1_norm(late) + l1_norm(early)], dim=-1))
    return torch.stack(sums, dim=1)


def motion_score(sums: Sequence[tuple[float, float]]) -> float | None:
    """Return motion in 0..1, the mean ratio over strides, or None where no stride has anything to compare.

    >>> motion_score([(1.0, 4.0), (3.0, 4.0)])
    0.5
    """
    ratios = [difference / norm for difference, norm in sums if norm > 0]
    return sum(ratios) / len(ratios) if ratios else None


def regularize_motion(motion: float, center: float, power: float, divisor: float) -> float:
    """Return (motion / center)^power / divisor, the reference's shaping of motion (the paper uses motion itself).

    >>> regularize_motion(0.385, 0.385, 8, 1)
    1.0
    """
    return (motion / center) ** power / divisor


def motion_gradient(motion: float, previous: float, rate: int, weight: float) -> float:
    """Return weight · (motion − previous) / rate, the change of motion per step.

    >>> motion_gradient(1.5, 1.0, 2, 10)
    2.5
    """
    return weight * (motion - previous) / rate
