"""How a kind of policy is calibrated. The fields of the settings decide, so your own policies are supported too."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, cast

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.runs import CalibrationRuns
from opensora_adacache.calibration.search import search

# Thresholds and codebook factors to try, 2.3 % apart.
GRID = tuple(10 ** (exponent / 100) for exponent in range(-400, 201))
SLACK = 0.5
"""How many steps a target may lie outside the range that a policy reaches; a policy cannot compute a part of a step."""
BISECTION_RUNS = math.log2(len(GRID)) / 2
"""Cost of a bisection over `GRID`, whose cached runs take about half as long as uncached ones."""


class CalibrationKind(ABC):
    """A way to calibrate every policy whose settings have certain fields.

    Args:
        runs: runs of the calibration prompts.
    """

    field_names: ClassVar[frozenset[str]]
    """Fields that a config must have to be of this kind."""

    def __init__(self, runs: CalibrationRuns) -> None:
        self.runs = runs

    @classmethod
    def fits(cls, cache: CacheConfig) -> bool:
        """Return whether settings have what this kind calibrates, as far as they show by themselves."""
        return cls.field_names <= {field.name for field in fields(cache)}

    def takes(self, cache: CacheConfig) -> bool:
        """Return whether settings are of this kind in the runs."""
        return self.fits(cache)

    @abstractmethod
    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        """Return settings with the constants of this model, ordered from most to fewest computed steps."""

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        """Return the settings whose mean number of computed steps is closest to n / speedup.

        Raises:
            ValueError: the target cannot be reached within `SLACK` steps. The message names the range that can.
        """
        runs = self.runs
        found, steps = search(self.family(cache), runs.mean_steps, runs.num_steps / speedup, 1 / len(runs.jobs), SLACK)
        return Found(found, steps)

    def for_psnr(self, cache: CacheConfig, target: float) -> Found:
        """Return the settings with the target mean PSNR in dB against the uncached videos.

        Raises:
            ValueError: the target cannot be reached. The message names the range that can.
        """
        found, value = search(self.family(cache), self.runs.mean_psnr, target)
        return Found(found, self.runs.mean_steps(found), value)

    def num_runs(self, cache: CacheConfig, num_targets: int, for_psnr: bool) -> float:
        """Return the cost of finding settings for some targets, in uncached runs of one video, as an estimate."""
        return len(self.runs.jobs) * (1 + num_targets * BISECTION_RUNS)

    def notes(self, cache: CacheConfig) -> Iterator[str]:
        """Yield lines about other findings that settings of this kind may need."""
        yield from ()


def changed(cache: CacheConfig, **values: Any) -> Any:
    """Return settings with new values for fields of their kind."""
    return replace(cast(Any, cache), **values)


def rounded(value: float) -> float:
    """Round a number to four significant digits.

    >>> rounded(0.123456)
    0.1235
    """
    return float(f"{value:.4g}")
