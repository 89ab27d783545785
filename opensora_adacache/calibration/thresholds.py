"""Calibrate one threshold by making cached videos, and the model's constants if the settings have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.calibration.kind import GRID, CalibrationKind, changed, rounded
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.search import fit_polynomial, mean_ratios, search
from opensora_adacache.calibration.sensitivities import mean_sensitivities


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


class Intervals(CalibrationKind):
    """Calibrates policies that compute at intervals, such as Static and TaylorSeer.

    Intervals alone reach few numbers of computed steps. If the settings have `first_steps`, more steps at the start
    make up for the rest, and each number of computed steps takes the shortest interval that reaches it.
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
        return Found(*search(self.family(cache), self.runs.mean_steps, self.runs.num_steps / speedup))
