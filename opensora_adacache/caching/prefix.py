"""Policies that reuse the first blocks of the stack up to one that they choose at each step.

A block's output replaces whatever would have led to it. So where one block is reused as a whole, the blocks before it
need not run, and a decision about each block comes down to the last one that is reused. Letters: R batch rows, N
tokens, C channels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from opensora_adacache.caching.contract import CachePolicy, StackView

if TYPE_CHECKING:
    from torch import Tensor


class PrefixPolicy(CachePolicy):
    """Chooses for each group the first block that computes; the stored output of the block before it is its input.

    A step counts as computed if any block runs.

    Attributes:
        starts: for each group, the number of blocks that the open step does not run.
        num_blocks: number of blocks of the stack, known from the first decision on.
    """

    def __init__(self, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.starts = [0] * len(groups)
        self.num_blocks = 0

    @property
    def share(self) -> float | None:
        """Mean over the groups."""
        total = self.num_blocks * len(self.starts)
        skipped = sum(self.starts)
        return None if skipped in (0, total) else 1 - skipped / total

    def decide(self, view: StackView) -> list[bool]:
        self.num_blocks = len(view.sites)
        groups = range(len(self.groups))
        self.starts = [0 if group in view.complete else self.num_reused(group, view.step) for group in groups]
        return [start < self.num_blocks for start in self.starts]

    @abstractmethod
    def num_reused(self, group: int, step: int) -> int:
        """Return how many of the first blocks a group does not run at a step, counted from 1."""

    @abstractmethod
    def observe_block(self, view: StackView, block: int, out: Tensor, rows: Tensor | None) -> None:
        """Receive the output [r, N, C] of a block that ran, for these rows (None: all rows), and store it.

        Its name in the store is that of its site.
        """
