"""The profile of a model for ForecastCache: how much errors harm and how fast they grow, over the course of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from opensora_adacache.caching.forecast.config import first_steps
from opensora_adacache.caching.forecast.schedule import error_growth
from opensora_adacache.caching.trace import StepRecord, computed_steps
from opensora_adacache.calibration.weightings import weighting


def sensitivity_profile(harm: Mapping[int, float], errors: Mapping[int, float], num_steps: int) -> tuple[float, ...]:
    """Return the harm per relative error at each step, normalised to mean 1.

    Args:
        harm: step → distance between the final latents and the uncached ones if only that step is forecast.
        errors: step → relative error of that forecast.
        num_steps: number of steps n. Steps that were not measured, and those whose harm is lost in rounding, lie on a
            line between the nearest others.
    """
    ratios = _fill({step: harm[step] / errors[step] for step in harm if harm[step] > 0 < errors[step]}, num_steps)
    mean = fmean(ratios)
    return tuple(_rounded(value / mean) for value in ratios)


def weighted_sensitivity(sensitivity: Sequence[float], coefficients: Sequence[float]) -> tuple[float, ...]:
    """Return a sensitivity times a weighting (`weightings.weighting`) with these coefficients, normalised to mean 1.

    >>> weighted_sensitivity((0.5, 1.0, 1.5), (0.0, math.log(4.0)))
    (0.176, 0.706, 2.12)
    """
    weights = weighting(coefficients, len(sensitivity))
    values = [value * weight for value, weight in zip(sensitivity, weights, strict=True)]
    mean = fmean(values)
    return tuple(_rounded(value / mean) for value in values)


def growth_profile(traces: Iterable[Sequence[StepRecord]], num_steps: int) -> tuple[float, ...]:
    """Return the relative error of a forecast at each step, divided by the squared fraction of the run it spans.

    Args:
        traces: traces of cached runs, whose `distance` is that error. The result is their geometric mean.
        num_steps: number of steps n. Steps that no run computed are interpolated linearly.
    """
    found: dict[int, list[float]] = {}
    for trace in traces:
        steps = computed_steps(trace)
        for before, step in zip(steps, steps[1:], strict=False):
            error = trace[step - 1].distance
            if error and step >= first_steps(num_steps):
                found.setdefault(step, []).append(math.log(error_growth(error, step - before, num_steps)))
    filled = _fill({step: fmean(values) for step, values in found.items()}, num_steps)
    return tuple(_rounded(math.exp(value)) for value in filled)


def _fill(values: Mapping[int, float], num_steps: int) -> list[float]:
    """Return a value for each step 1..n: linear between known values, and the nearest known value outside them."""
    known = sorted(values)
    if not known:
        raise ValueError(f"no forecast was measured in runs of {num_steps} steps; use more steps")
    filled = []
    for step in range(1, num_steps + 1):
        low = max((s for s in known if s <= step), default=known[0])
        high = min((s for s in known if s >= step), default=known[-1])
        part = (step - low) / (high - low) if high != low else 0.0
        filled.append(values[low] * (1 - part) + values[high] * part)
    return filled


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
