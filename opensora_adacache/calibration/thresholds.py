"""Calibrate one threshold by making cached videos, and the model's constants if the settings have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.calibration.kind import GRID, SLACK, CalibrationKind, changed, rounded
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.runs import CalibrationRuns
from opensora_adacache.calibration.search import fit_polynomial, mean_ratios, search
from opensora_adacache.calibration.sensitivities import mean_sensitivities

FIRST_FRACTIONS = (0.0, 0.25, 0.35)
"""Fractions of the run to try for TAFC's first steps, where they exceed those of its settings."""
COARSE = 5
"""Stride through the grid of thresholds for TAFC, whose other settings make a larger difference."""
PUBLISHED = {"growth": (0.0, 0.75, 3.0), "blend": (1.0, 0.5)}
"""Values to try for Spectrum: those that its authors give, and intervals that do not grow."""


class Thresholds(CalibrationKind):
    """Calibrates one threshold, with TeaCache's polynomial, MagCache's ratios or SenCache's sensitivities."""

    field_names = frozenset({"threshold"})

    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        names = {field.name for field in fields(cache)}
        if "coefficients" in names:
            cache = changed(cache, coefficients=fit_polynomial(self.runs.measurements))
        if "ratios" in names:
            cache = changed(cache, ratios=mean_ratios(self.runs.measurements))
        if "input_sensitivities" in names:
            cache = changed(cache, **mean_sensitivities(self.runs.sensitivities))
        return [changed(cache, threshold=rounded(value)) for value in GRID]


class Stretches(Thresholds):
    """Calibrates TAFC: its threshold, the steps that it may skip in a row, and the first steps.

    A tight threshold skips where the residual turns least, and with long stretches it skips nowhere else. So for
    several numbers of first steps, from that of the settings up, this takes the fewest `max_skips` up to that of the
    settings with which the target can be reached, and finds the threshold. The cached videos choose among them.
    """

    field_names = frozenset({"threshold", "max_skips", "first_steps"})

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        starts = self._starts(cache, self.runs.num_steps / speedup)
        if not starts:
            return super().for_speedup(cache, speedup)  # says what can be reached
        return closest_videos(self.runs, [super(Stretches, self).for_speedup(one, speedup) for one in starts], speedup)

    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        return super().family(cache)[::COARSE]

    def num_runs(self, cache: CacheConfig, num_targets: int, for_psnr: bool) -> float:
        return super().num_runs(cache, num_targets, for_psnr) * (1 if for_psnr else len(FIRST_FRACTIONS))

    def _starts(self, cache: Any, target: float) -> list[CacheConfig]:
        """Return settings that reach the target, one for each number of first steps with which any do."""
        starts = []
        for first in sorted({max(cache.first_steps, round(part * self.runs.num_steps)) for part in FIRST_FRACTIONS}):
            for max_skips in range(cache.max_skips + 1):
                one = changed(cache, first_steps=first, max_skips=max_skips)
                if self.runs.mean_steps(self.family(one)[-1]) <= target + SLACK:
                    starts.append(one)
                    break
        return starts


class Intervals(CalibrationKind):
    """Calibrates policies that compute at intervals, such as Static and TaylorSeer.

    Intervals alone reach few numbers of computed steps. If the settings have `first_steps`, more steps at the start
    make up for the rest, and each number of computed steps takes the shortest interval that reaches it. Where
    Spectrum's authors give several values, cached videos choose.
    """

    field_names = frozenset({"interval"})

    def takes(self, cache: CacheConfig) -> bool:
        """Only policies of the whole stack either compute or skip a step entirely."""
        return super().takes(cache) and cache.fixed_steps(self.runs.num_steps) is not None

    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        n, first = self.runs.num_steps, getattr(cache, "first_steps", None)
        found: dict[int, CacheConfig] = {}
        for interval in range(1, n // 2):
            spaced = changed(cache, interval=interval)
            for one in [spaced] if first is None else (changed(spaced, first_steps=f) for f in range(first, n)):
                found.setdefault(len(one.fixed_steps(n) or ()), one)
        return [found[count] for count in sorted(found, reverse=True)]

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        """Return the settings whose number of computed steps, which is known before a run, is closest."""
        names = [field.name for field in fields(cache) if field.name in PUBLISHED]
        values = product(*(PUBLISHED[name] for name in names))
        starts = [changed(cache, **dict(zip(names, chosen, strict=True))) for chosen in values]
        target = self.runs.num_steps / speedup
        found = [Found(*search(self.family(one), self.runs.mean_steps, target)) for one in starts]
        return closest_videos(self.runs, found, speedup)


def closest_videos(runs: CalibrationRuns, found: Sequence[Found], speedup: float) -> Found:
    """Return the settings whose videos have the largest PSNR, of those that are about as near the speedup as any."""
    distances = [abs(one.computed_steps - runs.num_steps / speedup) for one in found]
    near = [one for one, far in zip(found, distances, strict=True) if far <= max(SLACK, min(distances))]
    return near[0] if len(near) == 1 else max(near, key=lambda one: runs.mean_psnr(one.cache))
