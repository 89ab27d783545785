"""BWCache: computes every step until the outputs of all blocks have settled, then follows a fixed pattern.

Source: Cui et al., "BWCache: Accelerating Video Diffusion Transformers through Block-Wise Caching", ICLR 2026, arXiv
2509.13789. The method caches blocks, and all of them are reused at the same steps. Neither the paper's text nor the
published code was available, only summaries with its equations and tables. They agree that reuse is triggered once, by
equation 7, and then alternates with computed steps (equation 8). Two points were unclear:

- Which last steps always compute. One sentence names the second half of those that remain after the trigger at step k,
  the ablation the last k / 2 of the run. Only the latter can reach the published shares of reused steps (41 % at
  δ = 0.15 and 59 % at δ = 0.25; with three of four steps skipped, the other reading allows 38 %), so it is what we do,
  with k counted from 1.
- Whether a skipped step gives the output of the last block again or adds the residual of the stack. By a description of
  the published code it adds the residual, and so do we.

Norms are pooled over the rows of a group, as everywhere here. The model's outputs are measured until the trigger only,
because nothing depends on them later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_fraction, check_positive, is_index, items
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, Decision, Probe, StackView
from opensora_adacache.caching.distance import change_sums, relative_change
from opensora_adacache.caching.fractions import whole_steps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BWCacheConfig(CacheConfig):
    """BWCache.

    Attributes:
        threshold: δ, the mean relative change of the blocks' outputs from step to step below which reuse begins;
            published for Open-Sora 1.2: 0.15 (slow), 0.2 (mid) and 0.25 (fast). Raising it computes fewer steps.
        skipped_fraction: R, the number of steps skipped in a row, as a fraction of the run, at least one step;
            published: 0.1.
        kept_fraction: with reuse triggered at step k, the last ``kept_fraction`` · k steps always compute; published:
            0.5.
        layers: layers whose outputs are measured, counted from 0; None for all. (For models with full attention, Wan
            2.1 and HunyuanVideo, the paper measures some of the blocks, without saying which.)
    """

    threshold: float = 0.15
    skipped_fraction: float = 0.1
    kept_fraction: float = 0.5
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)
        for name in ("skipped_fraction", "kept_fraction"):
            check_fraction(name, getattr(self, name))
        if self.layers is not None:
            layers = items("layers", self.layers)
            if not layers or not all(map(is_index, layers)):
                raise ValueError(f"layers must be layers, counted from 0, or None for all, got {layers}")
            object.__setattr__(self, "layers", tuple(sorted(set(layers))))

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        if self.layers is not None and self.layers[-1] >= depth:
            raise ValueError(f"layers must lie in 0..{depth - 1}, got {self.layers}")

    @property
    def probe(self) -> Probe:
        return Probe("output", self.layers)

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return BWCachePolicy(self, num_sampling_steps, groups)

    def most_lenient(self) -> CacheConfig:
        return self


def computes(config: BWCacheConfig, trigger: int, step: int, num_steps: int) -> bool:
    """Return whether a step computes after reuse was triggered at an earlier one; steps are counted from 1.

    >>> config = BWCacheConfig(skipped_fraction=0.2, kept_fraction=0.5)  # two of ten steps in a row
    >>> [step for step in range(5, 11) if computes(config, 4, step, 10)]
    [7, 9, 10]
    """
    skipped = max(round(config.skipped_fraction * num_steps), 1)
    is_kept = step > num_steps - whole_steps(config.kept_fraction, trigger)
    return is_kept or (step - trigger) % (skipped + 1) == 0


class BWCachePolicy(CachePolicy):
    """Measures ‖h_s − h_{s−1}‖₁ / ‖h_{s−1}‖₁ of the output h of each block until the mean falls below the threshold."""

    def __init__(self, config: BWCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.config = config
        self.num_steps = num_steps
        self.triggers: list[int | None] = [None] * len(groups)
        self._sums: list[Tensor] = []

    @property
    def measures_probes(self) -> bool:
        return None in self.triggers

    def decide(self, view: StackView) -> list[bool]:
        return [
            trigger is None or computes(self.config, trigger, view.step, self.num_steps) for trigger in self.triggers
        ]

    def observe_probe(self, step: int, old: Tensor, new: Tensor, num_frames: int) -> None:
        self._sums.append(change_sums(old, new))

    def take_measurements(self) -> Sequence[Tensor]:
        sums, self._sums = self._sums, []
        return sums

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        decisions: list[Decision | None] = [None] * len(self.groups)
        for index, pooled in enumerate(self.pooled(computed, measured)):
            if not pooled or self.triggers[index] is not None:
                continue
            distance = sum(relative_change(change, norm, 1) for change, norm in pooled) / len(pooled)
            decisions[index] = Decision(distance)
            if distance < self.config.threshold:
                self.triggers[index] = step
        return decisions
