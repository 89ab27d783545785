"""Δ-DiT: reuses the offset (output minus input) of a range of layers, with different ranges in early and late steps.

Source: Chen et al., "Δ-DiT: A Training-Free Acceleration Method Tailored for Diffusion Transformers", arXiv 2406.01125:
rear layers early, front layers late. The comparisons on Open-Sora 1.2 come from the PAB authors' public code (VideoSys,
branch exp/tgate_deltadit). Its script reuses the front layers 0 to 5 in the first six steps; these are the defaults
here. That code adds input − output of the range, which is the offset with the opposite sign and may explain the quality
published for it. This module adds the offset as the Δ-DiT paper defines it.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.checks import check_counts, is_index, items
from opensora_adacache.caching.sites import RangeCacheConfig


@dataclass(frozen=True)
class DeltaDiTConfig(RangeCacheConfig):
    """Δ-DiT.

    Attributes:
        interval: steps between computed steps of a range, counted from the start of its phase. Raising it computes
            less. (The public code skips one step in `interval`; both agree at the published value 2.)
        gate_step: last step of the early phase, counted from 1.
        early: first and last layer, inclusive, of the range reused in the early phase; None for no range.
        late: first and last layer, inclusive, of the range reused in the later steps; None for no range.
    """

    interval: int = 2
    gate_step: int = 6
    early: tuple[int, int] | None = (0, 5)
    late: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "interval", "gate_step")
        for name in ("early", "late"):
            layers = getattr(self, name)
            if layers is None:
                continue
            layers = items(name, layers)
            object.__setattr__(self, name, layers)
            valid = len(layers) == 2 and all(map(is_index, layers))
            if not valid or layers[0] > layers[1]:
                raise ValueError(f"{name} must be the first and the last layer of a range, from 0, got {layers}")

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        for name, layers in (("early", self.early), ("late", self.late)):
            if layers is not None and layers[1] >= depth:
                raise ValueError(f"{name} must lie in layers 0..{depth - 1}, got {layers}")

    def layers_at(self, step: int) -> tuple[int, int] | None:
        return self.early if step <= self.gate_step else self.late

    def reuses(self, step: int) -> bool:
        since_phase = step - 1 if step <= self.gate_step else step - 1 - self.gate_step
        return self.layers_at(step) is not None and since_phase % self.interval != 0
