"""DiCache: the first blocks run on every step, as a probe that decides when to skip and how to combine two residuals.

Source: Bu et al., "DiCache: Let Diffusion Model Determine Its Own Cache", ICLR 2026, arXiv 2508.17356, and its
published code for HunyuanVideo, Wan 2.1 and FLUX. The code settles what the abstract leaves open, and it differs
between the models: the signal is the change of the probe's output, or (FLUX, by a switch) the distance between that
change and the change of its input; the largest γ is 1.5 or, for Wan, 2; only the code for FLUX computes the last step,
which we always do. Nothing was published for Open-Sora. The paper's text was not available.

Where we differ: the two guidance branches of a video decide together, as with every policy here, while the code for Wan
decides for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_counts, check_fraction, check_positive, is_number
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView
from opensora_adacache.caching.distance import change_sums
from opensora_adacache.caching.fractions import whole_steps
from opensora_adacache.caching.policies.accumulated import AccumulatingPolicy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class DiCacheConfig(CacheConfig):
    """DiCache. The defaults are those of the code for HunyuanVideo.

    Attributes:
        threshold: sum of the signal at which a step computes; published: 0.1 (HunyuanVideo), 0.08 (Wan 2.1), 0.4
            (FLUX), and 0.08 with ``subtract_input`` (FLUX). Raising it computes fewer steps.
        probe_blocks: number of blocks that run on every step; the code recommends 1 to 5.
        retention: fraction of the first steps that always compute; the first step always does. Published: 0.2, and 0
            with ``subtract_input``.
        subtract_input: the signal is the distance between the relative changes of the probe's output and of its input,
            instead of the former alone.
        limit: largest γ, at least 1; 1 reuses the last residual. See `AlignedResidual`.
    """

    threshold: float = 0.1
    probe_blocks: int = 1
    retention: float = 0.2
    subtract_input: bool = False
    limit: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)
        check_counts(self, "probe_blocks")
        check_fraction("retention", self.retention)
        if not isinstance(self.subtract_input, bool):
            raise ValueError(f"subtract_input must be True or False, got {self.subtract_input!r}")
        if not is_number(self.limit) or self.limit < 1:
            raise ValueError(f"limit must be a number of at least 1, got {self.limit!r}")

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        if self.probe_blocks > depth:
            raise ValueError(f"probe_blocks must be at most {depth}, the model's layers, got {self.probe_blocks}")

    @property
    def num_first_blocks(self) -> int:
        return self.probe_blocks

    @property
    def reads_whole_video(self) -> bool:
        """Each device would find another γ for its part of a video."""
        return self.predictor is None

    @property
    def own_forecast_residuals(self) -> int:
        return 3

    @property
    def num_extra_residuals(self) -> int:
        """Those of the predictor, and the probe's output, with its input if it is read, at the previous step."""
        return super().num_extra_residuals + 1 + self.subtract_input

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return DiCachePolicy(self, num_sampling_steps, groups)

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.aligned import AlignedResidual

        return AlignedResidual(store, self.limit, num_rows, device)

    def most_lenient(self) -> CacheConfig:
        return self


class DiCachePolicy(AccumulatingPolicy):
    """Accumulates δ = ‖y_s − y_{s−1}‖₁ / ‖y_{s−1}‖₁ over adjacent steps; y is the output of the first blocks.

    With ``subtract_input`` it accumulates |δ − δ_x|, where δ_x is the same change of their input.
    """

    OUTPUT, INPUT = "previous output of the probe", "previous input of the probe"

    def __init__(self, config: DiCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(config.threshold, num_steps, groups, max(whole_steps(config.retention, num_steps), 1))
        self.subtract_input = config.subtract_input

    def measure(self, view: StackView) -> Tensor | None:
        import torch

        tensors = {self.OUTPUT: view.x}
        if self.subtract_input:
            tensors[self.INPUT] = view.x - view.known_first_residual()
        sums = [change_sums(view.store.get(name), new) for name, new in tensors.items() if name in view.store]
        for name, new in tensors.items():
            view.store.put(name, new)
        return torch.cat(sums, dim=1) if sums else None

    def signal(self, group: int, sums: list[float]) -> float:
        changes = [change / norm if norm else 0.0 for change, norm in zip(sums[::2], sums[1::2], strict=True)]
        return abs(changes[0] - changes[1]) if self.subtract_input else changes[0]
