"""EasyCache: predicts the change of the output from the change of the input, using the last measured ratio of the two.

Source: Zhou et al., "Less is Enough: Training-Free Video Diffusion Acceleration via Runtime-Adaptive Caching",
arXiv 2507.02860.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_positive, is_count
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView
from opensora_adacache.caching.distance import l1_norm
from opensora_adacache.caching.policies.accumulated import AccumulatingPolicy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EasyCacheConfig(CacheConfig):
    """EasyCache, applied to the input and the output of the block stack.

    Attributes:
        threshold: sum of predicted relative output changes at which a step computes; published: 0.05 to 0.1. Raising
            it computes fewer steps.
        warmup_steps: number of first steps that always compute; at least 2, to measure the ratio once.
    """

    threshold: float = 0.1
    warmup_steps: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)
        if not is_count(self.warmup_steps) or self.warmup_steps < 2:
            raise ValueError(f"warmup_steps must be a whole number of at least 2, got {self.warmup_steps!r}")

    @property
    def num_extra_residuals(self) -> int:
        """What the predictor holds, the previous input, and input and output of the last computed step."""
        return super().num_extra_residuals + 3

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return EasyCachePolicy(self, num_sampling_steps, groups)

    def most_lenient(self) -> CacheConfig:
        return self


class EasyCachePolicy(AccumulatingPolicy):
    """Accumulates K · ‖x_s − x_{s−1}‖₁ / ‖out‖₁.

    out is the output at the last computed step. K is the ratio of the output change to the input change between the
    last two computed steps.
    """

    PREVIOUS, INPUT, OUTPUT = "previous input", "last computed input", "last computed output"

    def __init__(self, config: EasyCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(config.threshold, num_steps, groups, config.warmup_steps)
        self._pair: Tensor | None = None

    def measure(self, view: StackView) -> Tensor | None:
        import torch

        sums = None
        if self._pair is not None:
            moved = l1_norm(view.x - view.store.get(self.PREVIOUS))
            sums = torch.cat([moved[:, None], l1_norm(view.store.get(self.OUTPUT))[:, None], self._pair], dim=1)
        view.store.put(self.PREVIOUS, view.x)
        return sums

    def keep_rows(self, rows: Tensor) -> None:
        super().keep_rows(rows)
        if self._pair is not None:
            self._pair = self._pair[rows]

    def signal(self, group: int, sums: list[float]) -> float:
        moved, output, output_change, input_change = sums
        return output_change / input_change * moved / output if input_change and output else 0.0

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        import torch

        x = view.x if rows is None else view.x[rows]
        if self.OUTPUT in view.store:
            output_change = l1_norm(out - view.store.get(self.OUTPUT, rows))
            input_change = l1_norm(x - view.store.get(self.INPUT, rows))
            pair = torch.stack([output_change, input_change], dim=1).detach()  # kept for the next steps
            if rows is None:
                self._pair = pair
            elif self._pair is not None:
                self._pair[rows] = pair
        view.store.put(self.INPUT, x, rows)
        view.store.put(self.OUTPUT, out, rows)
