"""Find MeanCache's schedule and spans: the shortest path through intervals, whose costs are powers of their errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from opensora_adacache.caching.combinations import of_computed
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.policies.meancache import span_weights
from opensora_adacache.calibration.kind import changed
from opensora_adacache.calibration.planned_kind import PlannedKind
from opensora_adacache.calibration.planning import plan_least_total
from opensora_adacache.calibration.products import Products, rms

SPANS = (1, 2, 3, 4, 5, 6)
"""The spans that the published tables have names for."""
POWER = 4

Interval = tuple[int, int]
"""A computed step and the next one, with skipped steps between."""


def interval_errors(
    videos: Sequence[Products], lengths: Sequence[float], longest: int
) -> dict[Interval, tuple[float, int]]:
    """Return interval → the error of its average residual with the best span, and that span.

    The error is the root mean square of Σ length·(forecast − residual) / Σ length over the steps of the interval, mean
    over videos, where forecasts continue from the uncached residuals up to the computed step.

    Args:
        videos: products of each video, [n, n].
        lengths: length of each step of the sampler.
        longest: longest interval.
    """
    n = len(lengths)
    found = {}
    for i in range(1, n + 1):
        by_span = []
        for span in SPANS:
            if span > i:
                break  # no run has that many steps before the first skipped one
            missed, rows = np.zeros(n), []
            forecasts = of_computed(
                {s: span_weights(s, span, lengths) for s in range(i + 1, min(i + longest, n + 1))}, range(1, i + 1)
            )
            for s, combination in forecasts.items():
                for source, weight in combination.items():
                    missed[source - 1] += lengths[s - 1] * weight
                missed[s - 1] -= lengths[s - 1]
                rows.append(missed / sum(lengths[i - 1 : s]))
            by_span.append(np.mean([rms(products, np.array(rows)) for products in videos], axis=0) if rows else [])
        for j in range(i + 2, min(i + longest, n) + 1):
            errors = [float(errors[j - i - 2]) for errors in by_span]
            found[i, j] = min(errors), SPANS[errors.index(min(errors))]
    return found


class AverageVelocities(PlannedKind):
    """Calibrates MeanCache. All uncached runs give all costs, and a plan is an exact shortest path."""

    field_names = frozenset({"steps", "spans", "lengths"})

    def counts(self, cache: CacheConfig) -> range:
        fewest = 1 + -(-(self.runs.num_steps - 1) // self.runs.longest_gap)
        return range(self.runs.num_steps, fewest - 1, -1)

    def plan(self, cache: CacheConfig, num_computed: int) -> Any:
        costs = {interval: error**POWER for interval, (error, _) in self._errors.items()}
        steps = plan_least_total(costs, self.runs.num_steps, num_computed)
        chosen = [self._errors[pair][1] if pair in self._errors else 1 for pair in zip(steps, steps[1:], strict=False)]
        return changed(cache, steps=tuple(steps), spans=(*chosen, 1), lengths=tuple(self._lengths))

    def num_runs(self, cache: CacheConfig, num_targets: int, for_psnr: bool) -> float:
        return super().num_runs(cache, num_targets, for_psnr) if for_psnr else len(self.runs.jobs)

    @cached_property
    def _lengths(self) -> list[float]:
        return [float(f"{length:.6g}") for length in self.runs.step_lengths.values()]

    @cached_property
    def _errors(self) -> dict[Interval, tuple[float, int]]:
        return interval_errors(self.runs.products, self._lengths, self.runs.longest_gap)
