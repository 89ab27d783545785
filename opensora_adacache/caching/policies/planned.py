"""Policies whose computed steps are fixed before the run: static, and any planned schedule (LeMiCa's, for one)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from opensora_adacache.caching.config import is_count
from opensora_adacache.caching.policies.stack_config import StackCacheConfig
from opensora_adacache.caching.policy import CachePolicy, StackView


class PlannedPolicy(CachePolicy):
    """Compute the given steps, reuse at the others.

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
class StaticConfig(StackCacheConfig):
    """Compute every k-th step, and the last.

    Attributes:
        interval: k; 1 computes every step. Raising it computes fewer steps.
    """

    interval: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_count(self.interval):
            raise ValueError(f"interval must be a whole number of at least 1, got {self.interval!r}")

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        """Make the policy of one run."""
        return PlannedPolicy([*range(1, num_sampling_steps, self.interval), num_sampling_steps], groups)


@dataclass(frozen=True)
class PlannedConfig(StackCacheConfig):
    """A schedule made beforehand, such as LeMiCa's plan or one replayed from a trace; skipped steps plainly reuse.

    Attributes:
        steps: computed steps, counted from 1; the first step must be among them.
    """

    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", tuple(self.steps))
        rising = all(early < late for early, late in zip(self.steps, self.steps[1:], strict=False))
        if not self.steps or self.steps[0] != 1 or not all(map(is_count, self.steps)) or not rising:
            raise ValueError(f"steps must be rising whole numbers that begin with 1, got {self.steps}")

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        if self.steps[-1] > num_sampling_steps:
            raise ValueError(f"planned steps must lie in 1..{num_sampling_steps}, got {self.steps[-1]}")

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        """Make the policy of one run."""
        return PlannedPolicy(self.steps, groups)
