"""Costs of skipping steps, measured on one uncached video. Plans are made from these errors.

R batch rows, N tokens, C channels; r_s is the residual of the block stack at step s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

import torch
from torch import Tensor

_Key = TypeVar("_Key", bound=tuple)


@dataclass
class StepMeasurements:
    """Measurements of an uncached video, taken step by step. Only the most recent residuals are kept.

    Attributes:
        max_gap: longest interval between computed steps to measure.
        forecasts: whether to measure `forecast_errors` and `moments` too, which takes longer.
        reuse_errors: (i, s) → mean |r_s − r_i|, the error of reusing step i's residual at step s.
        forecast_errors: (i, j, s) → mean |r_s − (r_j + (r_j − r_i)·(s − j)/(j − i))|, the error of a linear forecast.
        moments: (i, s) → means of v, ε, v² and v·ε over all values, where v is the output of the stack if step i's
            residual is reused at step s, and ε its error (ERTACache).
        sizes: s → mean |r_s|.
        norm_ratios: s → mean over tokens of ‖r_s‖ / ‖r_{s−1}‖ (MagCache's γ).
        input_changes: s → ‖m_s − m_{s−1}‖₁ / ‖m_{s−1}‖₁ of the first block's modulated input (TeaCache).
        output_changes: s → the same for the stack's output.
    """

    max_gap: int
    forecasts: bool = True
    reuse_errors: dict[tuple[int, int], float] = field(default_factory=dict)
    forecast_errors: dict[tuple[int, int, int], float] = field(default_factory=dict)
    moments: dict[tuple[int, int], tuple[float, ...]] = field(default_factory=dict)
    sizes: dict[int, float] = field(default_factory=dict)
    norm_ratios: dict[int, float] = field(default_factory=dict)
    input_changes: dict[int, float] = field(default_factory=dict)
    output_changes: dict[int, float] = field(default_factory=dict)
    num_steps: int = 0
    _residuals: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _last: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    def observe(self, x: Tensor, out: Tensor, modulated_input: Tensor) -> None:
        """Record the next step: input and output of the stack, and the first block's modulated input [R, N, C]."""
        self.num_steps += 1
        step, residual = self.num_steps, out - x
        self.sizes[step] = mean_size(residual)
        if self._last:
            self.input_changes[step] = relative_change(self._last[0], modulated_input)
            self.output_changes[step] = relative_change(self._last[1], out)
            ratio = residual.float().norm(dim=-1) / self._residuals[step - 1].float().norm(dim=-1)
            self.norm_ratios[step] = ratio.mean().item()
        for late, newer in self._residuals.items():
            if step - late > self.max_gap:
                continue
            self.reuse_errors[late, step] = mean_size(residual - newer)
            if self.forecasts:
                self.moments[late, step] = moments((x + newer).float(), (newer - residual).float())
            for early, older in self._residuals.items():
                if self.forecasts and early < late and late - early <= self.max_gap:
                    forecast = torch.lerp(older, newer, (step - early) / (late - early))
                    self.forecast_errors[early, late, step] = mean_size(residual - forecast)
        self._residuals[step] = residual
        self._residuals.pop(step - 2 * self.max_gap, None)  # the oldest pair that still forecasts the next step
        self._last = (modulated_input, out)


def moments(v: Tensor, error: Tensor) -> tuple[float, ...]:
    """Return the means of v, ε, v² and v·ε.

    >>> moments(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0]))
    (2.0, 1.0, 5.0, 3.0)
    """
    return tuple(each.mean().item() for each in (v, error, v.square(), v * error))


def relative_change(old: Tensor, new: Tensor) -> float:
    """Return ‖new − old‖₁ / ‖old‖₁."""
    change, size = (x.abs().sum(dtype=_wide(x)) for x in (new - old, old))
    return (change / size).item()


def mean_size(x: Tensor) -> float:
    """Return the mean absolute value."""
    return x.abs().mean(dtype=_wide(x)).item()


def _wide(x: Tensor) -> torch.dtype:
    """Return the dtype to sum x in: half precision overflows in a sum and rounds a mean to three digits."""
    return torch.promote_types(x.dtype, torch.float32)


def reuse_costs(measured: StepMeasurements, weights: Mapping[int, float]) -> dict[tuple[int, int], float]:
    """Return (i, j) → Σ over i < s < j of weight_s · error of reusing i at s, for intervals of 2 to `max_gap` steps.

    Args:
        measured: measurements of one video.
        weights: s → how far an error at step s moves the latents, which is the length of the sampler's step.
    """
    return {
        (i, j): sum(weights[s] * measured.reuse_errors[i, s] for s in range(i + 1, j))
        for i in range(1, measured.num_steps + 1)
        for j in range(i + 2, min(i + measured.max_gap, measured.num_steps) + 1)
    }


def relative_reuse_errors(measured: StepMeasurements) -> dict[tuple[int, int], float]:
    """Return ERTACache's (i, s) → ‖r_i − r_s‖₁ / ‖r_s‖₁, the relative error of reusing step i's residual at step s."""
    return {(i, s): error / measured.sizes[s] for (i, s), error in measured.reuse_errors.items()}


def error_lines(videos: Iterable[StepMeasurements]) -> dict[tuple[int, int], tuple[float, float]]:
    """Return (i, s) → a, b of the line a·v + b through the errors of reuse, by least squares over all videos."""
    pairs, lines = [video.moments for video in videos], {}
    for key in pairs[0]:
        v, error, square, product = (fmean(column) for column in zip(*(each[key] for each in pairs), strict=True))
        variance = square - v * v
        slope = (product - v * error) / variance if variance > 0 else 0.0
        lines[key] = slope, error - slope * v
    return lines


def forecast_costs(measured: StepMeasurements, max_gap: int) -> dict[tuple[int, int, int], float]:
    """Return DPCache's (i, j, k) → Σ over j < s ≤ k of the error of forecasting s from computed steps i and j.

    Args:
        measured: measurements of one video.
        max_gap: longest interval between computed steps. The paper allows 0.3 · n.
    """
    num_steps, costs = measured.num_steps, {}
    for i in range(1, num_steps + 1):
        for j in range(i + 1, min(i + max_gap, num_steps) + 1):
            total = 0.0
            for k in range(j + 1, min(j + max_gap, num_steps) + 1):
                total += measured.forecast_errors[i, j, k]
                costs[i, j, k] = total
    return costs


def mean_costs(videos: Iterable[Mapping[_Key, float]]) -> dict[_Key, float]:
    """Return the mean over videos of costs with the same keys."""
    first, *others = videos
    return {key: fmean([value, *(costs[key] for costs in others)]) for key, value in first.items()}
