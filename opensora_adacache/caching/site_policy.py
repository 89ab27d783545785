"""Policies that reuse single residuals of the blocks on a schedule that is fixed before the run.

A policy that skips the whole stack decides once per step; these decide for each site, and part of every step runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from opensora_adacache.caching.policies.stack_config import StackCacheConfig
from opensora_adacache.caching.policy import CachePolicy, StackView


class Site(NamedTuple):
    """One residual of the stack.

    Attributes:
        layer: counted from 0.
        axis: "s" for the spatial block of the layer, "t" for the temporal one.
        kind: "attn" (self-attention), "cross" (cross-attention) or "mlp".
    """

    layer: int
    axis: str
    kind: str

    def __str__(self) -> str:
        return f"{self.layer}.{self.axis}-{self.kind}"


@dataclass(frozen=True)
class SiteCacheConfig(StackCacheConfig, ABC):
    """Settings shared by policies that reuse single sites. The schedule is fixed, so batch and sample are the same.

    A site's residual is the one after its gate (cross-attention has none), as in the published code.
    """

    needs_timestep: ClassVar[bool] = False
    """Whether the schedule depends on timesteps; if not, they are never read for it."""

    @property
    def granularity(self) -> str:
        """Each site is stored for itself."""
        return "site"

    @abstractmethod
    def computes(self, step: int, timesteps: Sequence[float], site: Site) -> bool:
        """Tell whether a site computes, a pure function of the settings.

        Args:
            step: counted from 1.
            timesteps: those of steps 1 to `step`, 0 to 1000; may be empty unless `needs_timestep`.
            site: one of the stack's.
        """

    @abstractmethod
    def stores(self, site: Site) -> bool:
        """Tell whether a site is ever reused, and so has to be kept."""

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        """Make the policy of one run."""
        return SitePolicy(self, groups)


class SitePolicy(CachePolicy):
    """Follow a schedule of sites. A step counts as computed where any site computes.

    Where the schedule depends on timesteps, the session reads the step's timestep before the stack runs: one
    synchronisation per step on a device, instead of the one at the end of a computed step. The steps of these policies
    always compute something, and the published code reads it in every block.

    Args:
        config: the schedule.
        groups: the rows of each group.
    """

    def __init__(self, config: SiteCacheConfig, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.config = config
        self.reused: frozenset[Site] = frozenset()
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
        reused = [site for site in view.sites if not self.config.computes(view.step, self._timesteps, site)]
        self.reused = frozenset(reused)
        self._share = 1 - len(reused) / len(view.sites)
        return [len(reused) < len(view.sites)] * len(self.groups)
