"""TaylorSeer: computed steps at a fixed interval, the others extrapolated by a Taylor series of finite differences.

Source: Liu et al., "From Reusing to Forecasting: Accelerating Diffusion Models with TaylorSeers", arXiv 2503.06923. The
paper forecasts each module; here the residual of the whole stack is forecast, which holds order + 1 tensors in all.
"""

from __future__ import annotations

from dataclasses import dataclass

from opensora_adacache.caching.config import is_count
from opensora_adacache.caching.policies.planned import PlannedPolicy
from opensora_adacache.caching.policies.stack_config import StackCacheConfig
from opensora_adacache.caching.policy import CachePolicy


@dataclass(frozen=True)
class TaylorSeerConfig(StackCacheConfig):
    """TaylorSeer.

    Attributes:
        interval: steps from one computed step to the next. Raising it computes fewer steps.
        order: of the Taylor series, 1 or 2 (0 would be plain reuse).
        first_steps: steps at the start that always compute.
    """

    interval: int = 4
    order: int = 1
    first_steps: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("interval", "first_steps"):
            if not is_count(getattr(self, name)):
                raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}")
        if self.order not in (0, 1, 2):
            raise ValueError(f"order must be 0, 1 or 2, got {self.order!r}")

    @property
    def forecast(self) -> int:
        """Order of the series that stands in for the residual."""
        return self.order

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        """Make the policy of one run."""
        first = range(1, min(self.first_steps, num_sampling_steps) + 1)
        later = range(first[-1], num_sampling_steps + 1, self.interval)
        return PlannedPolicy([*first, *later, num_sampling_steps], groups)
