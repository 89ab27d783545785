"""MagCache: predicts the error of skipping from the ratio of residual norms of adjacent steps, calibrated once.

Source: Ma et al., "MagCache: Fast Video Generation with Magnitude-Aware Cache", arXiv 2506.09045, and its published
code, which leaves the last step to the threshold too. Here it always computes.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.checks import check_counts, check_fraction, check_positive, is_number, items
from opensora_adacache.caching.fractions import whole_steps
from opensora_adacache.caching.policies.planned import FixedStepsConfig


@dataclass(frozen=True)
class MagCacheConfig(FixedStepsConfig):
    """MagCache. The schedule depends only on the ratios, so it is the same for every video.

    Attributes:
        ratios: γ_s for steps 2..n, the mean of ‖r_s‖ / ‖r_{s−1}‖ of the stack residual on calibration videos; valid for
            one model and one number of steps.
        threshold: accumulated error at which a step computes. Raising it computes fewer steps.
        max_skips: largest number of consecutive skipped steps.
        retention: fraction of the run, at its start, in which every step computes.
    """

    ratios: tuple[float, ...] = ()
    threshold: float = 0.12
    max_skips: int = 4
    retention: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ratios", items("ratios", self.ratios))
        if not self.ratios or not all(is_number(ratio) and ratio > 0 for ratio in self.ratios):
            raise ValueError("ratios must be numbers above 0 for steps 2..n: calibrate them on this model")
        check_positive("threshold", self.threshold)
        check_counts(self, "max_skips")
        check_fraction("retention", self.retention)

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        if len(self.ratios) != num_sampling_steps - 1:
            raise ValueError(
                f"ratios belong to {len(self.ratios) + 1} steps, but the run has {num_sampling_steps}: "
                "calibrate them for this number of steps"
            )

    def fixed_steps(self, num_sampling_steps: int) -> tuple[int, ...]:
        return tuple(magcache_steps(self, num_sampling_steps))


def magcache_steps(config: MagCacheConfig, num_steps: int) -> list[int]:
    """Return the computed steps: a step is skipped while the sum of the errors |1 − ∏γ| is below the threshold."""
    computed, product, error, skips = [], 1.0, 0.0, 0
    retained = max(1, whole_steps(config.retention, num_steps))
    for step in range(1, num_steps + 1):
        if retained < step < num_steps:
            product *= config.ratios[step - 2]
            error += abs(1 - product)
            skips += 1
            if error < config.threshold and skips <= config.max_skips:
                continue
        computed.append(step)
        product, error, skips = 1.0, 0.0, 0
    return computed
