"""Spectrum: computes at intervals that grow and fits the residual with Chebyshev polynomials in between.

Source: Han et al., "Adaptive Spectral Feature Forecasting for Diffusion Sampling Acceleration", CVPR 2026, arXiv
2603.01623, and its published code. Three differences:

- The code forecasts the output of the last block; this package forecasts the residual of the stack, as in all policies
  that skip the stack.
- The code maps step numbers to −1..1 and assumes 50 of them. We map timesteps, so any number of steps works; on evenly
  spaced timesteps the polynomials are the same for the same number of steps.
- The code keeps every computed output in half precision; we keep sums in float32 (`ChebyshevResidual`).

As in the code, the last step need not compute. The paper's pairs of interval and growth differ by model, and the code's
examples use a blend of 0.5: the calibration tries these growths and none, with both blends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_counts, check_positive, is_number
from opensora_adacache.caching.policies.planned import FixedStepsConfig

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class SpectrumConfig(FixedStepsConfig):
    """Spectrum.

    Attributes:
        interval: steps from the last of the first steps to the next computed one. Raising it computes fewer steps.
        growth: added to the interval at each computed step after that; intervals are rounded down. Published: 0.75 and
            3. With an interval of 1 and no growth, every step computes.
        first_steps: number of steps at the start that always compute.
        degree: highest degree of the polynomials.
        ridge: λ of the regression.
        blend: weight of the regression against the line through the last two residuals. 1 is the paper's predictor; the
            authors recommend 0.5 to 1.
    """

    interval: int = 2
    growth: float = 0.75
    first_steps: int = 5
    degree: int = 4
    ridge: float = 0.1
    blend: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "interval", "first_steps", "degree")
        check_positive("ridge", self.ridge)
        if not is_number(self.growth) or self.growth < 0:
            raise ValueError(f"growth must be a number of at least 0, got {self.growth!r}")
        if not is_number(self.blend) or not 0 < self.blend <= 1:
            raise ValueError(f"blend must be above 0 and at most 1, got {self.blend!r}")

    def fixed_steps(self, num_sampling_steps: int) -> tuple[int, ...]:
        steps = list(range(1, min(self.first_steps, num_sampling_steps) + 1))
        interval: float = self.interval
        while steps[-1] + math.floor(interval) <= num_sampling_steps:
            steps.append(steps[-1] + math.floor(interval))
            interval = round(interval + self.growth, 3)
        return tuple(steps)

    @property
    def own_forecast_residuals(self) -> int:
        """The sums, which are float32 and count double beside a half-precision residual, and those of the line."""
        return 2 * (self.degree + 1) - 1 + (2 if self.blend < 1 else 0)

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.chebyshev import ChebyshevResidual

        return ChebyshevResidual(store, self.degree, self.ridge, self.blend, num_rows, device)
