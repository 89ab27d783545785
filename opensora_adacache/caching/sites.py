"""Policies that reuse single residuals of the blocks, or ranges of layers, on a schedule fixed before the run.

A policy that skips the whole stack decides once per step. These policies decide for each site, so part of every step
runs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opensora_adacache.caching.contract import CacheConfig, CachePolicy, Site, StackView


@dataclass(frozen=True)
class SiteCacheConfig(CacheConfig):
    """Base class for policies that reuse single sites. The schedule is fixed, so both values of `decision` agree.

    The residual of a site is taken after its gate (cross-attention has none), as in the published code, unless
    `before_gate` says otherwise.
    """

    needs_timestep: ClassVar[bool] = False
    """Whether the schedule depends on timesteps; if not, the schedule does not read them."""
    before_gate: ClassVar[bool] = False
    """Whether the output of an attention is stored before its gate, so that a reused one gets the gate of its step."""
    residuals_per_site: ClassVar[int] = 1
    """1, or 2 to move a reused residual along the difference of the last two (`trend_at`)."""

    @property
    def granularity(self) -> str:
        """Each site is stored separately."""
        return "site"

    @abstractmethod
    def computes(self, step: int, timesteps: Sequence[float], site: Site) -> bool:
        """Return whether a site computes; a pure function of the settings.

        Args:
            step: counted from 1.
            timesteps: timesteps of steps 1 to `step`, 0 to 1000; may be empty unless `needs_timestep`.
            site: one of the stack's sites.
        """

    @abstractmethod
    def stores(self, site: Site) -> bool:
        """Return whether a site is ever reused and therefore must be stored."""

    def trend_at(self, step: int, num_sampling_steps: int) -> float:
        """Return by how many times the difference of the last two residuals a reused one moves from the last."""
        return 0.0

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return SitePolicy(self, num_sampling_steps, groups)


@dataclass(frozen=True)
class RangeCacheConfig(SiteCacheConfig):
    """Base class for policies that reuse the offset (output minus input) of a range of layers."""

    @property
    def granularity(self) -> str:
        """One offset is stored for a whole range of layers."""
        return "range"

    @abstractmethod
    def layers_at(self, step: int) -> tuple[int, int] | None:
        """Return the first and last layer of the range for a step, counted from 0, or None for no range."""

    @abstractmethod
    def reuses(self, step: int) -> bool:
        """Return whether the range for a step is reused at that step."""

    def computes(self, step: int, timesteps: Sequence[float], site: Site) -> bool:
        layers = self.layers_at(step)
        return layers is None or not (self.reuses(step) and layers[0] <= site.layer <= layers[1])

    def stores(self, site: Site) -> bool:
        return False  # the offset of the range is stored instead


class SitePolicy(CachePolicy):
    """Follows a schedule of sites. A step counts as computed if any site computes.

    If the schedule depends on timesteps, the session reads the timestep before the stack runs. This costs one
    synchronization per step, in place of the one at the end of a computed step. Every step of these policies computes
    something, and the published code reads the timestep in every block.

    Args:
        config: the schedule.
        num_sampling_steps: n.
        groups: the rows of each group.

    Attributes:
        reused: the sites that the open step reuses.
        trend: `SiteCacheConfig.trend_at` of the open step.
    """

    def __init__(self, config: SiteCacheConfig, num_sampling_steps: int, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.config = config
        self.num_sampling_steps = num_sampling_steps
        self.reused: frozenset[Site] = frozenset()
        self.trend = 0.0
        self._share = 1.0
        self._timesteps: list[float] = []

    @property
    def needs_timestep(self) -> bool:
        return self.config.needs_timestep

    @property
    def share(self) -> float:
        return self._share

    def decide(self, view: StackView) -> list[bool]:
        if view.time is not None:
            self._timesteps.append(view.time)
        reusing = () if view.complete else view.sites  # all groups follow one schedule
        reused = [site for site in reusing if not self.config.computes(view.step, self._timesteps, site)]
        self.reused = frozenset(reused)
        self.trend = self.config.trend_at(view.step, self.num_sampling_steps) if reused else 0.0
        self._share = 1 - len(reused) / len(view.sites)
        return [len(reused) < len(view.sites)] * len(self.groups)
