"""How one kind of policy is calibrated: by the fields of its settings, so that a policy of your own is too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, cast

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.runs import CalibrationRuns
from opensora_adacache.calibration.search import search

# Thresholds and codebook factors that are tried: 2.3 % apart.
GRID = tuple(10 ** (exponent / 100) for exponent in range(-400, 201))


class CalibrationKind(ABC):
    """A way to find settings, for every policy whose settings have some fields.

    Args:
        runs: of the calibration prompts.
    """

    field_names: ClassVar[frozenset[str]]
    """What a config must have to be of this kind."""

    def __init__(self, runs: CalibrationRuns) -> None:
        self.runs = runs

    def takes(self, cache: CacheConfig) -> bool:
        """Tell whether settings are of this kind."""
        return self.field_names <= {field.name for field in fields(cache)}

    @abstractmethod
    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        """Return settings from the most computed steps to the fewest, with the constants of this model."""

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        """Return the settings that compute n / speedup steps on average, as nearly as they can.

        Raises:
            ValueError: they cannot be had; the message names what can.
        """
        runs = self.runs
        found, steps = search(self.family(cache), runs.mean_steps, runs.num_steps / speedup, 1 / len(runs.jobs))
        return Found(found, steps)

    def for_psnr(self, cache: CacheConfig, target: float) -> Found:
        """Return the settings whose videos have the target mean PSNR in dB to the uncached ones.

        Raises:
            ValueError: they cannot be had; the message names what can.
        """
        found, value = search(self.family(cache), self.runs.mean_psnr, target)
        return Found(found, self.runs.mean_steps(found), value)

    def notes(self, cache: CacheConfig) -> Iterator[str]:
        """Yield lines on what else the runs show that settings of this kind may need."""
        yield from ()


def changed(cache: CacheConfig, **values: Any) -> Any:
    """Return settings with other values in fields that their kind has."""
    return replace(cast(Any, cache), **values)


def rounded(value: float) -> float:
    """Return a number with four significant digits.

    >>> rounded(0.123456)
    0.1235
    """
    return float(f"{value:.4g}")
