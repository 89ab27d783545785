"""The processes that make one video together, as a session and its policy see them.

Importing this module does not import torch. Letters: R batch rows (videos × guidance branches), r those of this
process, N tokens of a video, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

_Value = TypeVar("_Value")


class Team:
    """A process that makes its videos alone; the base class of teams of several.

    In a team, each process holds some frames of a video (a part) and perhaps only one of its guidance branches.
    Whatever a policy reads from a device is a sum over tokens. The sums of all processes are gathered, and each process
    adds them up in the same order. All of them therefore decide from the same bits, and neither rounding nor the order
    of a reduction can let them disagree about which steps compute.

    Attributes:
        size: number of processes.
        leads: whether this is the first process, which encodes prompts and writes videos.
        num_parts: number of parts that a video is cut into.
        num_branches: number of guidance branches that are on processes of their own.
    """

    size = 1
    leads = True
    num_parts = 1
    num_branches = 1

    def share(self, value: _Value) -> _Value:
        """Return the value that the first process passed."""
        return value

    def rows(self, num_rows: int) -> slice:
        """Return which of R batch rows this process holds."""
        return slice(0, num_rows)

    def gather(self, numbers: Tensor) -> list[list[float]]:
        """Return the numbers [k] of each process, branch by branch. Waits for the device."""
        return [numbers.tolist()]

    def part_of(self, tokens: Tensor) -> Tensor:
        """Return this process's part of all tokens [R, N, C] of a video."""
        return tokens

    def whole_sequence(self, tokens: Tensor, num_frames: int) -> Tensor:
        """Exchange tokens for channels: return all N tokens, in order, of this process's share of the channels.

        Sums over channels and tokens of the result, added up over the team, are those of the whole residual.

        Args:
            tokens: this process's tokens of a residual [r, n, C].
            num_frames: T, the number of frames of the whole video.
        """
        return tokens

    def read(self, sums: Tensor) -> list[list[float]]:
        """Return sums [r, k] as numbers, added up over the parts, for the rows of all branches. Waits for the device.

        For signals that a policy needs before it decides. All processes of a team must call it at the same time.
        """
        numbers = self.add_parts(self.gather(sums.flatten()))
        width = sums.shape[1]
        return [branch[start : start + width] for branch in numbers for start in range(0, len(branch), width)]

    def add_parts(self, gathered: Sequence[list[float]]) -> list[list[float]]:
        """Add up gathered numbers over the parts: one list per branch."""
        if self.num_parts == 1:
            return list(gathered)
        parts = range(0, len(gathered), self.num_parts)
        return [[sum(column) for column in zip(*gathered[i : i + self.num_parts], strict=True)] for i in parts]
