"""FBCache (first-block cache): always runs the first block and reuses the others while its residual changes little.

Source: the ParaAttention project's first-block cache, also in diffusers and cache-dit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_positive
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView
from opensora_adacache.caching.distance import change_sums, column_sums

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FBCacheConfig(CacheConfig):
    """FBCache.

    Attributes:
        threshold: relative change of the first block's residual since the last computed step at which a step computes;
            published: 0.05 to 0.2. Raising it computes fewer steps.
    """

    threshold: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)

    @property
    def num_first_blocks(self) -> int:
        return 1

    @property
    def num_extra_residuals(self) -> int:
        """What the predictor holds, and the first block's residual at the last computed step."""
        return super().num_extra_residuals + 1

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return FBCachePolicy(self.threshold, groups)

    def most_lenient(self) -> CacheConfig:
        return self


class FBCachePolicy(CachePolicy):
    """Computes where ‖f − f_c‖₁ / ‖f_c‖₁ ≥ threshold.

    f is the first block's residual at this step and f_c the one at the last computed step.
    """

    NAME = "first residual"

    def __init__(self, threshold: float, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.threshold = threshold

    def decide(self, view: StackView) -> list[bool]:
        if self.NAME not in view.store:
            return [True] * len(self.groups)
        rows = self.team.read(change_sums(view.store.get(self.NAME), view.known_first_residual()))
        computed = []
        for group in self.groups:
            change, norm = column_sums(rows[row] for row in group)
            computed.append(not change < self.threshold * norm)  # NaN computes
        return computed

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        residual = view.known_first_residual()
        view.store.put(self.NAME, residual if rows is None else residual[rows], rows)
