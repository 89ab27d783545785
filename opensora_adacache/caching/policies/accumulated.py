"""Policies that add up a signal from step to step and compute when the sum reaches a threshold."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from opensora_adacache.caching.contract import CachePolicy, StackView
from opensora_adacache.caching.distance import column_sums

if TYPE_CHECKING:
    from torch import Tensor


class AccumulatingPolicy(CachePolicy):
    """Accumulates a signal between adjacent steps per group; computes and resets when the sum reaches the threshold.

    The first steps and the last one always compute. Reading the signal costs one synchronization on each of the others.

    Args:
        threshold: sum at which a step computes. Raising it computes fewer steps.
        num_steps: denoising steps of the run.
        groups: the rows of each group.
        first_steps: number of steps at the start that always compute, at least 1.
    """

    def __init__(self, threshold: float, num_steps: int, groups: list[list[int]], first_steps: int = 1) -> None:
        super().__init__(groups)
        self.threshold = threshold
        self.num_steps = num_steps
        self.first_steps = first_steps
        self.sums = [0.0] * len(groups)

    def decide(self, view: StackView) -> list[bool]:
        measured = self.measure(view)
        if view.step <= self.first_steps or view.step == self.num_steps:
            self.sums = [0.0] * len(self.groups)
            return [True] * len(self.groups)
        rows = [] if measured is None else self.team.read(measured)
        computed = []
        for index, group in enumerate(self.groups):
            if rows:
                self.sums[index] += self.signal(index, column_sums(rows[row] for row in group))
            computed.append(not self.sums[index] < self.threshold)  # NaN computes
            if computed[-1]:
                self.sums[index] = 0.0
        return computed

    @abstractmethod
    def measure(self, view: StackView) -> Tensor | None:
        """Return sums per row, float32 [R, k], that compare this step with the previous one; None at the first step."""

    @abstractmethod
    def signal(self, group: int, sums: list[float]) -> float:
        """Return the signal of one group from the sums added up over its rows."""
