"""FasterCache: reuses self-attention at every second step, moved along the trend of its last two outputs.

Source: Lv et al., "FasterCache: Training-Free Video Diffusion Model Acceleration with High Quality", arXiv 2410.19355,
and the authors' public code for Open-Sora 1.2. Its second part, which leaves out the unconditional rows, is a setting
of every policy here: `GuidanceReuse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opensora_adacache.caching.checks import check_counts, is_number
from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.sites import SiteCacheConfig


@dataclass(frozen=True)
class FasterCacheConfig(SiteCacheConfig):
    """FasterCache's reuse of attention. The defaults are those published for Open-Sora 1.2 at 30 steps.

    A reused self-attention, spatial or temporal, gives F = F₁ + (F₁ − F₂)·w, where F₁ and F₂ are its outputs at the
    last two steps that computed it, before the gate. The gate is that of the current step. Cross-attention and MLPs
    always compute.

    The paper says that w rises over the run; the code fixes it to 0.9·(step − 7) / 20, which is 1.035 at step 30. Here
    w rises from 0 at step `first_steps` to `trend` at the last step, which is the same at 30 steps and scales to other
    numbers.

    Attributes:
        first_steps: number of steps at the beginning that compute everything.
        interval: after these, attention computes at every k-th step. The paper knows only 2.
        trend: w at the last step. 0 reuses the last output unchanged.
    """

    before_gate: ClassVar[bool] = True
    residuals_per_site: ClassVar[int] = 2

    first_steps: int = 7
    interval: int = 2
    trend: float = 1.035

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "first_steps", "interval")
        if not is_number(self.trend) or self.trend < 0:
            raise ValueError(f"trend must be a number of at least 0, got {self.trend!r}")

    def computes(self, step: int, timesteps: Sequence[float], site: Site) -> bool:
        return site.kind != "attn" or step <= self.first_steps or (step - self.first_steps) % self.interval == 0

    def stores(self, site: Site) -> bool:
        return site.kind == "attn" and self.interval > 1

    def trend_at(self, step: int, num_sampling_steps: int) -> float:
        return self.trend * (step - self.first_steps) / (num_sampling_steps - self.first_steps)
