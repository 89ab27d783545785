"""Find settings of any policy for a target speedup or PSNR, on one model and a few prompts.

Constants of the model (TeaCache's polynomial, MagCache's ratios) and planned schedules (LeMiCa, DPCache) come from
uncached videos, thresholds from a bisection over cached ones. Each kind of policy has a module. The fields of a
policy's settings decide which kind it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from opensora_adacache.caching.codebook import OPEN_SORA_CODEBOOKS
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.registry import named_class
from opensora_adacache.calibration.average_velocity import AverageVelocities
from opensora_adacache.calibration.codebooks import Codebooks
from opensora_adacache.calibration.forecasts import Forecasts
from opensora_adacache.calibration.kind import CalibrationKind
from opensora_adacache.calibration.linear_predictor import LinearPredictors
from opensora_adacache.calibration.plans import Plans
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.runs import CalibrationRuns
from opensora_adacache.calibration.starts import AttentionStarts, GuidanceStarts
from opensora_adacache.calibration.thresholds import Intervals, Stretches, Thresholds

_KINDS: tuple[type[CalibrationKind], ...] = (
    GuidanceStarts,
    Codebooks,
    Forecasts,
    LinearPredictors,
    AverageVelocities,
    Plans,
    Stretches,
    Thresholds,
    AttentionStarts,
    Intervals,
)
# Placeholders for constants of the model, and published settings to start from: name on the command line → fields.
_STARTS: dict[str, dict[str, Any]] = {
    "adacache": {"codebook": OPEN_SORA_CODEBOOKS["fast"]},
    "magcache": {"ratios": (1.0,)},
    "sencache": {"input_sensitivities": (1.0,), "time_sensitivities": (1.0,)},
    "lemica": {"steps": (1,)},
    "dpcache": {"steps": (1,)},
    "budcache": {"steps": (1,)},
    "gcache": {"steps": (1,)},
    "recache": {"steps": (1,)},
    "l2p": {"steps": (1,)},
    "meancache": {"steps": (1,), "spans": (1,), "lengths": (1.0,)},
    "unshifted-ertacache": {"steps": (1,)},
    "forecastcache": {"speedup": 2.0, "corrector": 0.5},
}


class Calibrator:
    """Finds settings of policies on one model.

    Args:
        runs: runs of the calibration prompts.
    """

    def __init__(self, runs: CalibrationRuns) -> None:
        self.runs = runs
        self._kinds = [kind(runs) for kind in _KINDS]

    def kind(self, cache: CacheConfig) -> CalibrationKind:
        """Return the way in which settings are calibrated.

        Raises:
            ValueError: the policy has nothing to calibrate.
        """
        for kind in self._kinds:
            if kind.takes(cache):
                return kind
        raise _nothing_to_calibrate(cache)

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        """Return the settings of a policy whose mean number of computed steps is closest to n / speedup.

        Raises:
            ValueError: the policy cannot be calibrated, or cannot reach this speedup.
        """
        cache = self.runs.allowed(cache)
        return replace(self.kind(cache).for_speedup(cache, speedup), speedup=speedup)

    def for_psnr(self, cache: CacheConfig, target: float) -> Found:
        """Return the settings of a policy with the target mean PSNR in dB against the uncached videos.

        Raises:
            ValueError: the policy cannot be calibrated, or cannot reach this PSNR.
        """
        cache = self.runs.allowed(cache)
        return self.kind(cache).for_psnr(cache, target)

    def num_runs(self, cache: CacheConfig, num_targets: int, for_psnr: bool) -> float:
        """Return about how many uncached runs of one video a calibration costs; 0 if there is nothing to calibrate."""
        kinds = (kind for kind in self._kinds if kind.takes(cache))
        return next((kind.num_runs(cache, num_targets, for_psnr) for kind in kinds), 0.0)

    def notes(self, cache: CacheConfig) -> Iterator[str]:
        """Yield lines about other findings of the runs; see `CalibrationKind.notes`."""
        for kind in self._kinds:
            if kind.takes(cache):
                yield from kind.notes(cache)
                return


def check_settings(cache: CacheConfig) -> None:
    """Check that there is something to calibrate, as far as settings show it without a model.

    Raises:
        ValueError: there is nothing.
    """
    if not any(kind.fits(cache) for kind in _KINDS):
        raise _nothing_to_calibrate(cache)


def _nothing_to_calibrate(cache: CacheConfig) -> ValueError:
    return ValueError(f"{type(cache).__name__} has a fixed schedule, so there is nothing to calibrate")


def starting_settings(policy: str) -> CacheConfig:
    """Return settings of a policy to start from: published values, and placeholders for constants of the model.

    Args:
        policy: name on the command line.

    Raises:
        ValueError: there is no such policy.
    """
    return named_class(policy)(**_STARTS.get(policy, {}))
