"""MoReg, motion regularization: scales the distance by the motion in a residual. AdaCache paper, section 4.2.

Torch is imported on first use, so that settings can be read without it. Letters: R batch rows, T frames of S tokens,
C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_positive, is_count, is_number, items, plain
from opensora_adacache.caching.distance import l1_norm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MoRegConfig:
    """Motion regularization (MoReg): videos with more motion compute more steps. AdaCache paper, section 4.2.

    Attributes:
        strides: frame offsets at which a residual is compared with itself; motion is the mean over the strides.
        steps: the window in which motion is used, first and last step included; elsewhere motion is 1. Give either
            steps counted from 1, such as (10, 90), or fractions of the run, such as (0.1, 0.9), which fit any number
            of steps. (The reference implementation accepts steps only.)
        center: motion that leaves the distance unchanged; motion m becomes (m / center)^power / divisor. Raising it
            lowers the regularized motion of every video, so fewer steps compute.
        power: steepness around `center`.
        divisor: divisor applied after the power.
        gradient_weight: weight of the change of motion per step, which is added to the motion.
    """

    strides: tuple[int, ...] = (1,)
    steps: tuple[float, float] = (4, 26)
    center: float = 0.385
    power: float = 8
    divisor: float = 1
    gradient_weight: float = 10

    def __post_init__(self) -> None:
        for name in ("strides", "steps"):
            object.__setattr__(self, name, items(f"MoReg {name}", getattr(self, name)))
        for name in ("center", "power", "divisor", "gradient_weight"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if not self.strides or any(not is_count(stride) for stride in self.strides):
            raise ValueError(f"MoReg strides must be whole numbers of at least 1, got {self.strides}")
        self._check_window()
        for name in ("center", "divisor"):
            check_positive(f"MoReg {name}", getattr(self, name))
        for name in ("power", "gradient_weight"):
            if not is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise ValueError(f"MoReg {name} must not be negative, got {getattr(self, name)!r}")

    def _check_window(self) -> None:
        wrong = len(self.steps) != 2 or not all(map(is_number, self.steps)) or not 0 <= self.steps[0] <= self.steps[1]
        if not wrong and not self._has_fractions:
            steps = tuple(int(step) for step in self.steps)
            wrong = steps != self.steps or steps[0] < 1
            object.__setattr__(self, "steps", steps)
        if wrong:
            raise ValueError(
                "MoReg steps must be (first, last), counted from 1 or fractions of the run, and first <= last, got "
                f"{self.steps}"
            )

    @property
    def _has_fractions(self) -> bool:
        return self.steps[1] <= 1 and any(isinstance(step, float) for step in self.steps)

    def window(self, num_sampling_steps: int) -> tuple[int, int]:
        """Return the first and the last step, counted from 1, at which motion is used in a run of n steps.

        >>> MoRegConfig(steps=(0.1, 0.9)).window(30), MoRegConfig(steps=(10, 90)).window(100)
        ((3, 27), (10, 90))

        Raises:
            ValueError: the steps lie beyond the run.
        """
        first, last = self.steps
        if self._has_fractions:
            return max(round(first * num_sampling_steps), 1), round(last * num_sampling_steps)
        if last > num_sampling_steps:
            raise ValueError(
                f"MoReg steps must lie in 1..{num_sampling_steps} (num_sampling_steps), got {self.steps}: use "
                "fractions of the run, which fit any number of steps: cache.moreg.steps=(0.1, 0.9), or "
                "model.moreg_steps=(0.1, 0.9) in a config of the reference implementation"
            )
        return int(first), int(last)


LARGEST_MOTION = 1e12
"""Upper limit of shaped motion: far above the thresholds of every codebook, far below the largest float."""


def motion_sums(residual: Tensor, num_frames: int, strides: Sequence[int]) -> Tensor:
    """Return the sums from which motion is computed, per row and stride i.

    Args:
        residual: [R, T·S, C].
        num_frames: T.
        strides: frame offsets, each at least 1.

    Returns:
        float32 [R, len(strides), 2]: ‖p[i:] − p[:−i]‖₁ and ‖p[i:]‖₁ + ‖p[:−i]‖₁ along the frames; zeros for strides
        that reach beyond the last frame.
    """
    import torch

    tokens = residual.shape[1] // num_frames
    sums = []
    for stride in strides:
        late, early = residual[:, stride * tokens :], residual[:, : max(num_frames - stride, 0) * tokens]
        sums.append(torch.stack([l1_norm(late - early), l1_norm(late) + l1_norm(early)], dim=-1))
    return torch.stack(sums, dim=1)


def motion_score(sums: Sequence[tuple[float, float]]) -> float | None:
    """Return the motion in 0..1, the mean ratio over strides, or None if no stride has frames to compare.

    >>> motion_score([(1.0, 4.0), (3.0, 4.0)])
    0.5
    """
    ratios = [difference / norm for difference, norm in sums if norm > 0]
    return sum(ratios) / len(ratios) if ratios else None


def regularize_motion(motion: float, center: float, power: float, divisor: float) -> float:
    """Return (motion / center)^power / divisor, as in the reference implementation (the paper uses motion directly).

    The result is limited to `LARGEST_MOTION`; the reference implementation overflows.

    >>> regularize_motion(0.385, 0.385, 8, 1)
    1.0
    """
    try:
        return min((motion / center) ** power / divisor, LARGEST_MOTION)
    except OverflowError:
        return LARGEST_MOTION


def motion_gradient(motion: float, previous: float, rate: int, weight: float) -> float:
    """Return weight · (motion − previous) / rate, the change of motion per step.

    >>> motion_gradient(1.5, 1.0, 2, 10)
    2.5
    """
    return weight * (motion - previous) / rate
