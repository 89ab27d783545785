"""Foresight: each block is reused at a step if its output changed little when it last ran, as measured in a warm-up.

Source: Adnan et al., "Foresight: Adaptive Layer Reuse for Accelerated and High-Quality Text-to-Video Generation",
NeurIPS 2025, arXiv 2506.00329, and its published code for Open-Sora 1.2. With m the squared change of a block's output
since it last ran, and λ the same at the last step of the warm-up, the block is reused at the next step if m ≤ γ·λ.
Every R-th step computes all blocks. The paper's text was not available; where its summaries and its code differ:

- λ is the change at the last step of the warm-up, as in the code. The paper adds a tenth and a hundredth of the two
  changes before it.
- The code looks for the last *layer* of which either block may be reused, and goes on with the output of its temporal
  block. The paper decides about each block, and so do we.
- The code compares temporal blocks with the stored output of the spatial ones at later steps, which cannot be meant;
  here each block is compared with itself.

A reused block's output replaces that of all blocks before it, so they do not run (as in the code; see `prefix`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_counts, check_positive
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, Decision, StackView
from opensora_adacache.caching.distance import square_norm
from opensora_adacache.caching.prefix import PrefixPolicy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ForesightConfig(CacheConfig):
    """Foresight. The defaults are those of the code for Open-Sora 1.2 at 30 steps.

    Attributes:
        threshold: γ. Raising it computes less; published: 0.25 to 2.
        warmup_steps: W, the number of first steps that compute all blocks, at least 2.
        interval: R; all blocks compute at the first and every R-th step after it. Raising it computes less; published:
            2 and 3.
    """

    threshold: float = 1.0
    warmup_steps: int = 8
    interval: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)
        check_counts(self, "warmup_steps", "interval")
        if self.warmup_steps < 2:
            raise ValueError(f"warmup_steps must be at least 2, to measure a change, got {self.warmup_steps}")

    @property
    def granularity(self) -> str:
        return "prefix"

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return ForesightPolicy(self, groups)


class ForesightPolicy(PrefixPolicy):
    """Holds, for each group and block, the squared change of its output when it last ran, and its limit γ·λ."""

    def __init__(self, config: ForesightConfig, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.config = config
        self.changes: list[list[float]] = [[] for _ in groups]
        self.limits: list[list[float]] = [[] for _ in groups]
        self._sums: Tensor | None = None  # [R, blocks]; 0 where a block did not run

    def num_reused(self, group: int, step: int) -> int:
        if step <= self.config.warmup_steps or (step - 1) % self.config.interval == 0:
            return 0
        pairs = zip(self.changes[group], self.limits[group], strict=True)
        return max((block for block, (change, limit) in enumerate(pairs, start=1) if change <= limit), default=0)

    def observe_block(self, view: StackView, block: int, out: Tensor, rows: Tensor | None) -> None:
        if view.step < self.config.warmup_steps - 1:
            return
        name = str(view.sites[block])
        if name in view.store:
            change = square_norm(out - view.store.get(name, rows))
            if self._sums is None:
                self._sums = change.new_zeros(len(view.x), self.num_blocks)
            self._sums[slice(None) if rows is None else rows, block] = change
        view.store.put(name, out, rows)

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        if self._sums is not None and rows is not None:
            self._sums = self._sums[rows]

    def take_measurements(self) -> Sequence[Tensor]:
        sums, self._sums = self._sums, None
        return () if sums is None else (sums,)

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        for index, pooled in enumerate(self.pooled(computed, measured)):
            if pooled:
                sums = pooled[0]
                start = self.starts[index]
                self.changes[index][start:] = sums[start:]
                if step == self.config.warmup_steps:
                    self.limits[index] = [self.config.threshold * change for change in sums]
        return [None] * len(self.groups)
