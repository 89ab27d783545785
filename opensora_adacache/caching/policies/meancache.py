"""MeanCache: a fixed schedule, and skipped steps that move by an average velocity instead of the last one.

Source: Gao et al., "MeanCache: From Instantaneous to Average Velocity for Accelerating Flow Matching Inference", ICLR
2026, arXiv 2601.19961, and its published code for Qwen-Image and Z-Image. At a skipped step s of length h the code
takes the last K steps, computed or not, whose first one has the velocity v_a and whose lengths sum to H. They moved the
latents by the average velocity u, and

    v̂_s = v_{s−1} + (u − v_a)·h / H,

where (v_a − u) / H stands for the Jacobian-vector product (JVP) of MeanFlow. With K = 1 this is reuse. Each interval
between computed steps has its own K. Schedules and spans are tables in the code; the paper finds them as the shortest
path through a graph whose edges are intervals and spans, with a power of their error as cost, which suppresses peaks.
`calibration.average_velocity` does so (``scripts/calibrate.py``). What differs or was unclear:

- The method replaces the output of the model; this package forecasts the residual of the stack, as in all policies that
  skip the stack. The formula is the same, with the residual in place of the velocity.
- A model does not know the length of its step, so the lengths are settings, which the calibration fills in.
- The text of the paper was not found in full. The power is 4, as in an independent reproduction. Errors are root mean
  squares, taken of the forecasts that the code makes on an uncached run.

Steps, spans and lengths are valid for one model, one number of steps and one timestep schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import is_count, is_number, items
from opensora_adacache.caching.combinations import Combination, slots
from opensora_adacache.caching.policies.planned import PlannedConfig

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class MeanCacheConfig(PlannedConfig):
    """MeanCache.

    Attributes:
        steps: the schedule: computed steps, counted from 1.
        spans: K of the skipped steps after each computed step, in order; any number where no skipped step follows.
        lengths: length of each step of the sampler, t_s − t_{s+1}, in any unit.
    """

    spans: tuple[int, ...] = ()
    lengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("spans", "lengths"):
            object.__setattr__(self, name, items(name, getattr(self, name)))
        if len(self.spans) != len(self.steps) or not all(map(is_count, self.spans)):
            raise ValueError(
                f"spans must have a whole number of at least 1 for each of the {len(self.steps)} computed steps, "
                f"got {self.spans}"
            )
        if not self.lengths or not all(is_number(length) and length > 0 for length in self.lengths):
            raise ValueError("lengths must be numbers above 0 for all steps: calibrate them on this model")

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        if len(self.lengths) != num_sampling_steps:
            raise ValueError(
                f"lengths belong to {len(self.lengths)} steps, but the run has {num_sampling_steps}: "
                "calibrate them for this number of steps"
            )

    @property
    def own_forecast_residuals(self) -> int:
        """The other residuals and forecasts within the spans."""
        return max(slots(self._weights(), self.steps).values(), default=0)

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.combined import CombinedResidual

        return CombinedResidual(store, self._weights(), self.steps, num_rows, device)

    def _weights(self) -> dict[int, Combination]:
        """Return skipped step → weights of earlier residuals and forecasts."""
        ends = (*self.steps[1:], len(self.lengths) + 1)
        return {
            step: span_weights(step, span, self.lengths)
            for computed, end, span in zip(self.steps, ends, self.spans, strict=True)
            for step in range(computed + 1, end)
        }


def span_weights(step: int, span: int, lengths: Sequence[float]) -> Combination:
    """Return the weights of earlier residuals in the forecast of a skipped step.

    Args:
        step: counted from 1, at least 2.
        span: K. A run has only step − 1 earlier steps, so a larger one counts as that.
        lengths: length of each step.

    >>> span_weights(5, 1, [1.0] * 6), span_weights(5, 2, [1.0] * 6)
    ({4: 1.0}, {3: -0.25, 4: 1.25})
    """
    first = max(step - span, 1)
    total = sum(lengths[first - 1 : step - 1])
    scale = lengths[step - 1] / total
    if first == step - 1:
        return {first: 1.0}
    weights = {earlier: lengths[earlier - 1] / total * scale for earlier in range(first, step)}
    weights[first] -= scale
    weights[step - 1] += 1.0
    return weights
