"""L2P: a fixed schedule, and skipped steps forecast by linear weights that were trained for each step.

Source: Shen et al., "Beyond Fixed Formulas: Data-Driven Linear Predictor for Efficient Diffusion Models", CVPR 2026,
arXiv 2604.26365, and its published code. The code trains one triangular matrix, whose rows predict the output of each
step from the outputs of all earlier steps, on uncached runs: 201 updates of Adam for the mean squared error, which
begin with reuse. In a cached run its predictions take the place of outputs that were not computed. Four differences:

- We forecast the residual of the stack, as in all policies that skip the stack, and not the output of the model. Both
  guidance branches share the weights.
- `calibration.linear_predictor` solves for the weights of least error, which the code's 201 updates approach, with a
  small penalty on the distance from reuse.
- A prediction is itself a sum of computed residuals, so our weights are those of computed residuals alone. They are
  fitted for one schedule.
- The code has schedules of six to eleven steps out of 50, tuned for FLUX, and does not say how. All compute steps 1,
  2, 3 and 5 and skip step 4, which does not suit every model: the bundled one, at 30 steps, loses more by skipping step
  4 alone than by skipping 16 later steps. The calibration chooses all steps. For several numbers of first steps, it
  places the others so that the weights predict the uncached runs best, and keeps the schedule with the best videos.

Weights and schedule are valid for one model, one number of steps and one timestep schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import is_number, items
from opensora_adacache.caching.combinations import Combination, slots
from opensora_adacache.caching.policies.planned import PlannedConfig

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class L2PConfig(PlannedConfig):
    """L2P.

    Attributes:
        steps: the schedule: computed steps, counted from 1.
        weights: for each skipped step in order, the weights of the residuals of the computed steps before it, in order.
    """

    weights: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = tuple(items("weights", row) for row in items("weights", self.weights))
        object.__setattr__(self, "weights", rows)
        skipped = self._skipped(len(self.steps) + len(rows))
        befores = [sum(computed < step for computed in self.steps) for step in skipped]
        if [len(row) for row in rows] != befores or not all(is_number(weight) for row in rows for weight in row):
            raise ValueError(
                "weights must have a row for each skipped step, with a number for each computed step before it: "
                "calibrate them on this model"
            )

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        trained = len(self.steps) + len(self.weights)
        if trained != num_sampling_steps:
            raise ValueError(
                f"weights belong to {trained} steps, but the run has {num_sampling_steps}: calibrate them for this "
                "number of steps"
            )

    @property
    def own_forecast_residuals(self) -> int:
        """The other residuals of computed steps that a forecast uses."""
        return max(slots(self._combinations(), self.steps).values(), default=0)

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.combined import CombinedResidual

        return CombinedResidual(store, self._combinations(), self.steps, num_rows, device)

    def _skipped(self, num_sampling_steps: int) -> list[int]:
        return [step for step in range(1, num_sampling_steps + 1) if step not in self.steps]

    def _combinations(self) -> dict[int, Combination]:
        """Return the weights by step."""
        skipped = self._skipped(len(self.steps) + len(self.weights))
        return {
            step: {computed: weight for computed, weight in zip(self.steps, row, strict=False) if weight != 0}
            for step, row in zip(skipped, self.weights, strict=True)
        }
