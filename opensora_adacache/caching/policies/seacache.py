"""SeaCache: the change of the first block's modulated input, filtered according to the noise level.

Source: SeaCache (CVPR 2026); the filter keeps the frequencies that carry signal at the current noise level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_positive
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView
from opensora_adacache.caching.distance import change_sums
from opensora_adacache.caching.policies.accumulated import AccumulatingPolicy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SeaCacheConfig(CacheConfig):
    """SeaCache.

    Attributes:
        threshold: sum of filtered changes at which a step computes. Raising it computes fewer steps. Published for 50
            steps: 0.19 gives about 2×, 0.35 about 3×.
    """

    threshold: float = 0.19

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)

    @property
    def reads_modulated_input(self) -> bool:
        return True

    @property
    def reads_frames(self) -> bool:
        return True

    @property
    def reads_whole_video(self) -> bool:
        """The filter transforms all frames at once."""
        return True

    @property
    def reads_noise_level(self) -> bool:
        return True

    @property
    def num_extra_residuals(self) -> int:
        """What the predictor holds, and the previous filtered input, which is float32 and counts double."""
        return super().num_extra_residuals + 2

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return SeaCachePolicy(self.threshold, num_sampling_steps, groups)

    def most_lenient(self) -> CacheConfig:
        return self


class SeaCachePolicy(AccumulatingPolicy):
    """Accumulates mean|P_s − P_{s−1}| / mean|P_{s−1}| over adjacent steps; P is the filtered modulated input."""

    NAME = "filtered input"

    def measure(self, view: StackView) -> Tensor | None:
        grid = view.modulated_input().unflatten(1, (view.num_frames, view.frame_size[0], view.frame_size[1]))
        now = filter_by_noise(grid, view.timestep.flatten()[0].float() / 1000).flatten(1, 3)
        sums = change_sums(view.store.get(self.NAME), now) if self.NAME in view.store else None
        view.store.put(self.NAME, now)
        return sums

    def signal(self, group: int, sums: list[float]) -> float:
        change, norm = sums
        return change / norm if norm else 0.0


def filter_by_noise(grid: Tensor, sigma: Tensor | float) -> Tensor:
    """Return the real part of `grid` [R, T, H, W, C] filtered over T, H and W, in float32.

    Along each axis g(f) = a·S / (a²·S + b² + 1e−16) with S(f) = 1 / (|f|³ + 1e−16), a = 1 − σ, b = σ and σ clamped to
    1e−6..1 − 1e−6. The filter is the product over the axes, divided by its mean over the grid.

    Args:
        grid: the signal.
        sigma: noise level in 0..1, a number or a 0-d tensor (a tensor avoids a synchronization).
    """
    import torch

    b = torch.as_tensor(sigma, dtype=torch.float32, device=grid.device).clamp(1e-6, 1 - 1e-6)
    a = 1 - b
    response = torch.ones((), device=grid.device)
    for axis in range(1, 4):
        frequency = torch.fft.fftfreq(grid.shape[axis], device=grid.device).abs()
        spectrum = 1 / (frequency**3 + 1e-16)
        gain = a * spectrum / (a**2 * spectrum + b**2 + 1e-16)
        response = response * gain.view([-1 if i == axis else 1 for i in range(1, 4)])
    response = response / response.mean()
    transformed = torch.fft.fftn(grid.float(), dim=(1, 2, 3)) * response[None, ..., None]
    # a copy, because the real part is a view that keeps the imaginary one in memory
    return torch.fft.ifftn(transformed, dim=(1, 2, 3)).real.contiguous()
