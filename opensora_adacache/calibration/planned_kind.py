"""Calibration of policies whose schedule can have any number of computed steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.calibration.kind import CalibrationKind
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.search import search


class _Plans(Sequence[CacheConfig]):
    """Settings with plans for several numbers of computed steps, each made when it is asked for."""

    def __init__(self, counts: Sequence[int], plan: Callable[[int], CacheConfig]) -> None:
        self.counts = counts
        self.plan = plan

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Any) -> Any:
        return self.plan(self.counts[index])


class PlannedKind(CalibrationKind):
    """Base class of kinds that make a plan for each number of computed steps."""

    @abstractmethod
    def counts(self, cache: CacheConfig) -> Sequence[int]:
        """Return the possible numbers of computed steps, in descending order."""

    @abstractmethod
    def plan(self, cache: CacheConfig, num_computed: int) -> Any:
        """Return the settings with a schedule of `num_computed` steps for this model.

        Raises:
            ValueError: no allowed schedule has that many computed steps.
        """

    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        return _Plans(self.counts(cache), lambda num_computed: self.plan(cache, num_computed))

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        target, _ = search(self.counts(cache), float, self.runs.num_steps / speedup)
        return Found(self.plan(cache, target), target)
