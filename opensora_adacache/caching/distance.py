"""How much a residual changed between two computed steps.

Torch is imported on first use, so that settings can be read without it. Letters: R batch rows, N tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def change_sums(old: Tensor, new: Tensor, metric: str = "l1") -> Tensor:
    """Return the sums per row that a metric is made of: two residuals [R, N, C] → float32 [R, 2 or 3], on their device.

    Sums, unlike ratios, can be pooled over rows: over a batch, or over the guidance branches of a video.

    Returns:
        "l1": ‖new − old‖₁ and ‖old‖₁; "l2": ‖new − old‖₂² and ‖old‖₂²; "cosine": the "l2" sums and ‖new‖₂².
    """
    import torch

    if metric == "l1":
        return torch.stack([l1_norm(new - old), l1_norm(old)], dim=-1)
    squares = [square_norm(new - old), square_norm(old)]
    if metric == "cosine":
        squares.append(square_norm(new))
    return torch.stack(squares, dim=-1)


def l1_norm(x: Tensor) -> Tensor:
    """Return the sum of absolute values of each row in float32: [R, N, C] → [R]."""
    return _norm(x, 1)


def square_norm(x: Tensor) -> Tensor:
    """Return the sum of squares of each row in float32: [R, N, C] → [R]."""
    return _norm(x, 2).square()


def _norm(x: Tensor, order: int) -> Tensor:
    import torch

    # it sums in at least the dtype of x, so that of a model in float64 cannot be float32
    return torch.linalg.vector_norm(x, order, (1, 2), dtype=torch.promote_types(x.dtype, torch.float32)).float()


def distance_of(sums: Sequence[float], rate: int, metric: str = "l1") -> float:
    """Return the distance per step from pooled `change_sums`.

    "l1" is `relative_change`. "l2" is the same with Euclidean norms. "cosine" is (1 − cos(old, new)) / rate, computed
    from ‖new − old‖² = ‖old‖² + ‖new‖² − 2·old·new, which keeps small angles accurate.

    >>> distance_of([9.0, 16.0], 1, "l2"), distance_of([2.0, 1.0, 1.0], 2, "cosine")
    (0.75, 0.5)
    """
    if metric == "l1":
        return relative_change(sums[0], sums[1], rate)
    if metric == "l2":
        return relative_change(math.sqrt(sums[0]), math.sqrt(sums[1]), rate)
    change, old, new = sums
    product = math.sqrt(old * new)
    if product == 0:
        return 0.0 if change == 0 else math.inf
    return max(change - (math.sqrt(old) - math.sqrt(new)) ** 2, 0.0) / (2 * product) / rate


def column_sums(rows: Iterable[Sequence[float]]) -> list[float]:
    """Return the sum of each column: what rows that decide together have measured as a whole.

    >>> column_sums([(1.0, 2.0), (3.0, 4.0)])
    [4.0, 6.0]
    """
    return [sum(column) for column in zip(*rows, strict=True)]


def relative_error(missed: Iterable[Sequence[float]]) -> float:
    """Return ‖r − forecast‖₂ / ‖r‖₂ over rows that decide together, each with the squares of both norms.

    >>> relative_error([(1.0, 4.0), (0.0, 0.0)]), relative_error([(1.0, 0.0)])
    (0.5, 0.0)
    """
    error, norm = column_sums(missed)
    return math.sqrt(error / norm) if norm else 0.0


def relative_change(change: float, norm: float, rate: int) -> float:
    """Return the distance c = ‖new − old‖₁ / ‖old‖₁ / rate.

    The paper divides by the steps since the last computed step. This function follows the reference implementation,
    which divides by the current rate; the rate is larger when a forced step cuts it short. A residual that was zero
    and stays zero has distance 0.

    >>> relative_change(1.0, 4.0, 2)
    0.125
    """
    if norm == 0:
        return 0.0 if change == 0 else math.inf
    return change / norm / rate
