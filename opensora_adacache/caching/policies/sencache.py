"""SenCache: predicts the error of reuse from how sensitive the model is to its input and to the timestep.

Source: Haghighi and Alahi, "Accelerating Diffusion Model Inference via Sensitivity-Aware Caching", CVPR 2026, arXiv
2602.24208, and its published code for Wan 2.1, which also gives the tighter threshold of the first steps and divides by
the root of the number of values. Where we differ: inputs are the tokens of the block stack rather than latents, and the
sensitivity is that of the stack's residual, which is what skipped steps reuse, rather than that of the model's output.
Published thresholds therefore do not carry over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_counts, check_positive, is_number, items
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView
from opensora_adacache.caching.distance import column_sums, square_norm

if TYPE_CHECKING:
    from torch import Tensor

EARLY_SHARE = 0.2
"""Fraction of the run, at its start, that the tighter threshold holds for."""


@dataclass(frozen=True)
class SenCacheConfig(CacheConfig):
    """SenCache. Sensitivities are valid for one model, one number of steps and one timestep schedule.

    Attributes:
        input_sensitivities: for steps 1..n − 1, RMS change of the residual per RMS change of the stack's input, at the
            timestep of the step.
        time_sensitivities: for the same steps, RMS change of the residual per change of the timestep / 1000.
        threshold: predicted RMS change of the residual at which a step computes. Raising it computes fewer steps.
        early_fraction: fraction of the threshold that holds in the first fifth of the run. The published thresholds,
            0.005 and 0.07, have this ratio.
        max_skips: largest number of consecutive skipped steps; published: 3.
    """

    input_sensitivities: tuple[float, ...] = ()
    time_sensitivities: tuple[float, ...] = ()
    threshold: float = 0.07
    early_fraction: float = 0.0714
    max_skips: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("input_sensitivities", "time_sensitivities"):
            values = items(name, getattr(self, name))
            object.__setattr__(self, name, values)
            if not values or not all(is_number(value) and value >= 0 for value in values):
                raise ValueError(f"{name} must be numbers of at least 0 for steps 1..n−1: calibrate them on this model")
        if len(self.input_sensitivities) != len(self.time_sensitivities):
            raise ValueError(
                "input_sensitivities and time_sensitivities must be for the same steps, "
                f"got {len(self.input_sensitivities)} and {len(self.time_sensitivities)} values"
            )
        check_positive("threshold", self.threshold)
        if not is_number(self.early_fraction) or not 0 < self.early_fraction <= 1:
            raise ValueError(f"early_fraction must lie above 0 and be at most 1, got {self.early_fraction!r}")
        check_counts(self, "max_skips")

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        if len(self.input_sensitivities) != num_sampling_steps - 1:
            raise ValueError(
                f"sensitivities belong to {len(self.input_sensitivities) + 1} steps, but the run has "
                f"{num_sampling_steps}: calibrate them for this number of steps"
            )

    @property
    def num_extra_residuals(self) -> int:
        """What the predictor holds, and the input of the last computed step."""
        return super().num_extra_residuals + 1

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return SenCachePolicy(self, num_sampling_steps, groups)


class SenCachePolicy(CachePolicy):
    """Skips while J_x · rms(x_s − x_c) + J_t · |t_s − t_c| is below the threshold; c is the last computed step.

    J_x and J_t are the sensitivities of step c; t is the timestep / 1000. Reading the change of the input costs one
    synchronization on every step.
    """

    INPUT = "last computed input"

    def __init__(self, config: SenCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.config = config
        self.num_early = round(EARLY_SHARE * num_steps)
        self.last_steps = [0] * len(groups)
        self.last_times = [0.0] * len(groups)

    def decide(self, view: StackView) -> list[bool]:
        rows = self.team.read(self._measure(view))
        computed = []
        for index, group in enumerate(self.groups):
            change, count, time = column_sums(rows[row] for row in group)
            computed.append(not self._skips(index, view.step, math.sqrt(change / count), time / count))
            if computed[-1]:
                self.last_steps[index], self.last_times[index] = view.step, time / count
        return computed

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        view.store.put(self.INPUT, view.x if rows is None else view.x[rows], rows)

    def _measure(self, view: StackView) -> Tensor:
        """Return per row ‖x_s − x_c‖₂², the number of values, and that number times t: sums that parts add up."""
        import torch

        moved = square_norm(view.x - view.store.get(self.INPUT)) if self.INPUT in view.store else view.x.new_zeros(())
        moved = moved.float().expand(len(view.x))
        count = torch.full_like(moved, view.x[0].numel())
        return torch.stack([moved, count, count * view.timestep.float().max() / 1000], dim=1)

    def _skips(self, index: int, step: int, drift: float, time: float) -> bool:
        """Return whether a group skips, given the RMS change of its input since the last computed step."""
        last, config = self.last_steps[index], self.config
        if last == 0 or step - last > config.max_skips:
            return False
        error = config.input_sensitivities[last - 1] * drift
        error += config.time_sensitivities[last - 1] * abs(time - self.last_times[index])
        return error < config.threshold * (config.early_fraction if step <= self.num_early else 1.0)
