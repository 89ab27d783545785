"""Policies whose computed steps are fixed before the run: every k-th step, and any planned schedule."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_choice, check_counts, is_count, items
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, StackView

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore


class PlannedPolicy(CachePolicy):
    """Computes the given steps and reuses at all others.

    Args:
        steps: counted from 1.
        groups: the rows of each group.
    """

    def __init__(self, steps: Iterable[int], groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.steps = frozenset(steps)

    def decide(self, view: StackView) -> list[bool]:
        return [view.step in self.steps] * len(self.groups)


@dataclass(frozen=True)
class FixedStepsConfig(CacheConfig):
    """Base class for settings of policies whose computed steps are known before the run."""

    @abstractmethod
    def fixed_steps(self, num_sampling_steps: int) -> tuple[int, ...]:
        """Return the steps that compute, counted from 1."""

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return PlannedPolicy(self.fixed_steps(num_sampling_steps), groups)


@dataclass(frozen=True)
class IntervalConfig(FixedStepsConfig):
    """Base class for policies that compute the first steps, then every k-th one, and the last.

    Attributes:
        interval: steps from one computed step to the next. Raising it computes fewer steps.
        first_steps: number of steps at the start that always compute.
    """

    interval: int = 4
    first_steps: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "interval", "first_steps")

    def fixed_steps(self, num_sampling_steps: int) -> tuple[int, ...]:
        first = range(1, min(self.first_steps, num_sampling_steps) + 1)
        later = range(first[-1], num_sampling_steps + 1, self.interval)
        return tuple(sorted({*first, *later, num_sampling_steps}))


class TaylorSeries:
    """Shared by settings whose skipped steps are extrapolated by a Taylor series over steps.

    A subclass defines the field `order`: 1 or 2, or 0 for plain reuse.
    """

    order: int

    def check_order(self) -> None:
        """Raise ValueError unless the order is 0, 1 or 2."""
        check_choice("order", self.order, (0, 1, 2))

    @property
    def own_forecast_residuals(self) -> int:
        """The finite differences of the series."""
        return self.order

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        """Create the Taylor series of the stack residual."""
        from opensora_adacache.caching.residuals.taylor import TaylorResidual

        return TaylorResidual(store, self.order, num_rows, device)


@dataclass(frozen=True)
class StaticConfig(FixedStepsConfig):
    """Computes every k-th step and the last step.

    Attributes:
        interval: k; 1 computes every step. Raising it computes fewer steps.
    """

    interval: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "interval")

    def fixed_steps(self, num_sampling_steps: int) -> tuple[int, ...]:
        return (*range(1, num_sampling_steps, self.interval), num_sampling_steps)


@dataclass(frozen=True)
class PlannedConfig(FixedStepsConfig):
    """A schedule made in advance, such as one replayed from a trace; skipped steps reuse the stack residual.

    Attributes:
        steps: computed steps, counted from 1; must include the first step.
    """

    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", items("steps", self.steps))
        counts = all(map(is_count, self.steps))
        if not counts or self.steps[:1] != (1,) or list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must be rising whole numbers that begin with 1, got {self.steps}")

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        if self.steps[-1] > num_sampling_steps:
            raise ValueError(f"planned steps must lie in 1..{num_sampling_steps}, got {self.steps[-1]}")

    def fixed_steps(self, num_sampling_steps: int) -> tuple[int, ...]:
        return self.steps
