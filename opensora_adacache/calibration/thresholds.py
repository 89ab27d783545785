"""Calibrate one threshold by making cached videos, and the model's constants if the settings have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.calibration.kind import GRID, CalibrationKind, changed, rounded
from opensora_adacache.calibration.search import fit_polynomial, mean_ratios
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
    """Calibrates policies that compute every k-th step, such as Static and TaylorSeer."""

    field_names = frozenset({"interval"})

    def takes(self, cache: CacheConfig) -> bool:
        """Only policies of the whole stack either compute or skip a step entirely."""
        return super().takes(cache) and cache.fixed_steps(self.runs.num_steps) is not None

    def family(self, cache: CacheConfig) -> Sequence[CacheConfig]:
        return [changed(cache, interval=interval) for interval in range(1, self.runs.num_steps // 2)]
