"""Find constants and settings of policies from measurements of uncached videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TypeVar

import numpy as np

from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.codebook import Codebook
from opensora_adacache.caching.replay import Recording, replay
from opensora_adacache.calibration.step_costs import StepMeasurements

_Setting = TypeVar("_Setting")


def scale_codebook(codebook: Codebook, factor: float) -> dict[float, int]:
    """Multiply every threshold by `factor`, to four significant digits.

    >>> scale_codebook({0.08: 6, 1.0: 1}, 0.5)
    {0.04: 6, 0.5: 1}
    """
    return {float(f"{threshold * factor:.4g}"): rate for threshold, rate in codebook.items()}


def mean_computed_steps(config: AdaCacheConfig, recordings: Sequence[Recording]) -> float:
    """Return the mean number of steps that `config` would compute over the recorded videos."""
    return fmean(len(replay(config, recording)) for recording in recordings)


def calibrate(config: AdaCacheConfig, recordings: Sequence[Recording], speedup: float) -> AdaCacheConfig:
    """Scale the thresholds of a codebook by one factor so that videos compute n / speedup steps on average.

    The rates and the ratios of the thresholds do not change. The factor is found by bisection: larger thresholds give
    larger rates and so fewer computed steps (not strictly: a schedule can deviate by a step in either direction).

    Raises:
        ValueError: the rates of the codebook cannot reach that speedup. The message names the range that they can.
    """
    num_steps = fmean(recording.num_steps for recording in recordings)  # two transformers share the steps of a run
    target = num_steps / speedup

    def steps_at(factor: float) -> float:
        scaled = replace(config, codebook=scale_codebook(config.codebook, factor))
        return mean_computed_steps(scaled, recordings)

    low, high = 1e-4, 1e4
    most, fewest = steps_at(low), steps_at(high)
    if not fewest <= target <= most:
        raise ValueError(
            f"these rates reach speedups of {num_steps / most:.2f} to {num_steps / fewest:.2f} over {num_steps:g} "
            f"steps, got {speedup:g}: choose one between, or a codebook of other rates"
        )
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if steps_at(middle) > target else (low, middle)
    best = min((low, high), key=lambda factor: abs(steps_at(factor) - target))
    return replace(config, codebook=scale_codebook(config.codebook, best))


def fit_polynomial(videos: Sequence[StepMeasurements], degree: int = 4) -> tuple[float, ...]:
    """Fit TeaCache's polynomial from input change to output change; highest power first, six significant digits."""
    changes = [(video.input_changes[s], video.output_changes[s]) for video in videos for s in video.input_changes]
    inputs, outputs = np.array(changes).T
    return tuple(float(f"{value:.6g}") for value in np.polyfit(inputs, outputs, degree))


def mean_ratios(videos: Sequence[StepMeasurements]) -> tuple[float, ...]:
    """Return MagCache's ratios of residual norms for steps 2..n, averaged over videos, with six significant digits."""
    steps = range(2, videos[0].num_steps + 1)
    return tuple(float(f"{fmean(video.norm_ratios[s] for video in videos):.6g}") for s in steps)


def search(
    settings: Sequence[_Setting],
    measure: Callable[[_Setting], float],
    target: float,
    tolerance: float = 0.0,
    slack: float = 0.0,
) -> tuple[_Setting, float]:
    """Find the setting whose measure is closest to the target by bisection, and return both.

    Args:
        settings: settings ordered so that the measure (computed steps, PSNR) is nearly decreasing.
        measure: function that is called about log₂(number of settings) times.
        target: value to reach.
        tolerance: distance from the target at which the search stops.
        slack: how far the target may lie outside the range that can be reached.

    Raises:
        ValueError: there are no settings, or the target is further outside the range of the first and the last one.

    >>> search(range(1, 100), lambda setting: 100 / setting, 9.0)
    (11, 9.090909090909092)
    >>> search(range(1, 51), lambda setting: 100 / setting, 1.9, slack=0.5)
    (50, 2.0)
    """
    if not settings:
        raise ValueError("a run of so few steps leaves no settings to choose from: calibrate with more steps")
    low, high = 0, len(settings) - 1
    seen = {index: measure(settings[index]) for index in (low, high)}
    if not seen[high] - slack <= target <= seen[low] + slack:
        raise ValueError(
            f"these settings reach {seen[high]:.4g} to {seen[low]:.4g}, got {target:.4g}; choose one between"
        )
    while high - low > 1 and min(abs(value - target) for value in seen.values()) > tolerance:
        middle = (low + high) // 2
        seen[middle] = measure(settings[middle])
        low, high = (middle, high) if seen[middle] > target else (low, middle)
    best = min(seen, key=lambda index: abs(seen[index] - target))
    return settings[best], seen[best]
