"""NaviCache: EasyCache's prediction with a ratio that a scalar Kalman filter tracks during the run.

Source: Lv et al., "NaviCache: Test-Time Self-Calibration Caching for Video Generation", ICML 2026, arXiv 2606.26795,
and its published code for Open-Sora 1.2, which settles what the abstract leaves open. The abstract speaks of two states
(the ratio and its drift) and of noise that depends on the timestep. The code tracks the ratio alone, with constant
noise, and so do we; the paper's text was not available. Inputs and outputs are those of the block stack, as in that
code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_positive, is_count
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, Decision, StackView
from opensora_adacache.caching.distance import l1_norm
from opensora_adacache.caching.policies.accumulated import AccumulatingPolicy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NaviCacheConfig(CacheConfig):
    """NaviCache.

    Attributes:
        threshold: sum of predicted relative output changes at which a step computes; published for Open-Sora 1.2: 0.15
            (slow), 0.35 (mid) and 0.55 (fast). Raising it computes fewer steps.
        align_steps: number of first steps that always compute; at least 2, to measure the ratio once.
        process_noise: variance by which the ratio is expected to move between computed steps. Raising it trusts new
            measurements more.
        measurement_noise: variance of a measured ratio. Raising it trusts new measurements less.
    """

    threshold: float = 0.35
    align_steps: int = 5
    process_noise: float = 0.05
    measurement_noise: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("threshold", "process_noise", "measurement_noise"):
            check_positive(name, getattr(self, name))
        if not is_count(self.align_steps) or self.align_steps < 2:
            raise ValueError(f"align_steps must be a whole number of at least 2, got {self.align_steps!r}")

    @property
    def num_extra_residuals(self) -> int:
        """What the predictor holds, the previous input, and input and output of the last computed step."""
        return super().num_extra_residuals + 3

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return NaviCachePolicy(self, num_sampling_steps, groups)

    def most_lenient(self) -> CacheConfig:
        return self


def filtered(ratio: float, variance: float, measured: float, config: NaviCacheConfig) -> tuple[float, float]:
    """Return the ratio and its variance after a measurement: one step of a scalar Kalman filter.

    >>> filtered(2.0, 0.25, 4.0, NaviCacheConfig(process_noise=0.25, measurement_noise=0.5))
    (3.0, 0.25)
    """
    variance += config.process_noise
    gain = variance / (variance + config.measurement_noise)
    return ratio + gain * (measured - ratio), (1 - gain) * variance


class NaviCachePolicy(AccumulatingPolicy):
    """Accumulates K · ‖x_s − x_{s−1}‖₁ / ‖out‖₁; out is the output at the last computed step.

    K estimates the ratio of output change to input change between two computed steps. The first steps overwrite it and
    reset its variance to 1. Later ones filter it.
    """

    PREVIOUS, INPUT, OUTPUT = "previous input", "last computed input", "last computed output"

    def __init__(self, config: NaviCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(config.threshold, num_steps, groups, config.align_steps)
        self.config = config
        self.ratios = [0.0] * len(groups)
        self.variances = [1.0] * len(groups)
        self.output_norms = [0.0] * len(groups)
        self._measured: list[Tensor] = []

    def measure(self, view: StackView) -> Tensor | None:
        moved = l1_norm(view.x - view.store.get(self.PREVIOUS))[:, None] if self.PREVIOUS in view.store else None
        view.store.put(self.PREVIOUS, view.x)
        return moved

    def signal(self, group: int, sums: list[float]) -> float:
        norm = self.output_norms[group]
        return self.ratios[group] * sums[0] / norm if norm else 0.0

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        import torch

        x = view.x if rows is None else view.x[rows]
        sums = [l1_norm(out)]
        if self.OUTPUT in view.store:
            sums += [l1_norm(out - view.store.get(self.OUTPUT, rows)), l1_norm(x - view.store.get(self.INPUT, rows))]
        self._measured = [torch.stack(sums, dim=1)]
        view.store.put(self.INPUT, x, rows)
        view.store.put(self.OUTPUT, out, rows)

    def take_measurements(self) -> list[Tensor]:
        measured, self._measured = self._measured, []
        return measured

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        for index, sums in enumerate(self.pooled(computed, measured)):
            if sums is not None:
                norm, *changes = sums[0]
                self.output_norms[index] = norm
                if changes and changes[1]:
                    self._learn(index, step, changes[0] / changes[1])
        return [None] * len(self.groups)

    def _learn(self, index: int, step: int, measured: float) -> None:
        """Take a measured ratio into the estimate of a group."""
        if step <= self.config.align_steps:
            self.ratios[index], self.variances[index] = measured, 1.0
        else:
            self.ratios[index], self.variances[index] = filtered(
                self.ratios[index], self.variances[index], measured, self.config
            )
