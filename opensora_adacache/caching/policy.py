"""What a caching policy is: it decides, before the block stack runs, which groups of rows compute.

A group is what decides together: a whole batch, or the guidance halves of one video. R rows of a batch, N tokens,
C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.measured_forecast import MissedForecast
from opensora_adacache.caching.residuals.store import ResidualStore

if TYPE_CHECKING:
    from opensora_adacache.caching.site_policy import Site


@dataclass(frozen=True)
class Decision:
    """What a step measured and decided for one group.

    Attributes:
        distance: the policy's measure of change.
        motion: shaped motion; 1 where it does not count.
        motion_gradient: weighted change of motion.
        rate: steps until the next computed one, where the policy plans ahead.
    """

    distance: float
    motion: float | None = None
    motion_gradient: float | None = None
    rate: int = 1


@dataclass(frozen=True)
class StackView:
    """What a policy may look at when the block stack is about to run.

    Attributes:
        step: counted from 1.
        x: input of the stack [R, N, C].
        timestep: [R], 0 to 1000.
        num_frames: latent frames.
        frame_size: rows and columns of patches.
        first_residual: residual of the blocks that always run [R, N, C]; None where there are none (`x` is what comes
            after them).
        modulated_input: gives what the first block's attention reads [R, N, C]; computed when asked for.
        store: where a policy keeps tensors, so that their bytes count.
        sites: the stack's residuals in order of execution, for policies that decide for each.
        time: the timestep as a number where the host knows it without waiting for the device, or had to read it.
    """

    step: int
    x: Tensor
    timestep: Tensor
    num_frames: int
    frame_size: tuple[int, int]
    first_residual: Tensor | None
    modulated_input: Callable[[], Tensor]
    store: ResidualStore
    sites: tuple[Site, ...] = ()
    time: float | None = None


class CachePolicy(ABC):
    """Decisions for groups of rows during one run.

    Args:
        groups: the rows of each group; every row is in one group.
    """

    def __init__(self, groups: list[list[int]]) -> None:
        self.groups = groups

    @property
    def rates(self) -> list[int]:
        """The rate in force of each group; 1 where a policy does not plan ahead."""
        return [1] * len(self.groups)

    @property
    def needs_timestep(self) -> bool:
        """Whether the timestep must be read as a number before the stack runs: a synchronisation on every step."""
        return False

    @property
    def share(self) -> float | None:
        """Share of the stack's residuals that compute in the open step; None where it is all of them or none."""
        return None

    def rows_of(self, chosen: Sequence[bool]) -> list[int]:
        """Return the rows, rising, of the groups that are chosen."""
        return sorted(row for group, taken in zip(self.groups, chosen, strict=True) if taken for row in group)

    @abstractmethod
    def decide(self, view: StackView) -> list[bool]:
        """Tell for each group whether this step computes."""

    def observe_probe(self, step: int, old: Tensor, new: Tensor, num_frames: int) -> None:
        """See the old and new residual [r, N, C] of a probe site on a computed step."""
        return None

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        """See the output [r, N, C] of the stack for the rows that computed (None: all)."""
        return None

    def observe_forecast(self, missed: Mapping[int, MissedForecast]) -> None:
        """See row → ‖r − forecast‖₂², ‖r‖₂² of the stack residual on a computed step (`ForecastResidual`).

        Before `end_computed_step`; empty where nothing was forecast.
        """
        return None

    def take_measurements(self) -> Tensor:
        """Return what a computed step measured and is to be read on the host, float32 [sites, r, sums]."""
        return torch.empty(0, 0, 0)

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        """Take the measurements of a computed step; return a decision for each group, or None where there is none."""
        return [None] * len(self.groups)
