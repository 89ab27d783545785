"""Find the codebook that gives a wanted speedup, from recordings of uncached videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from opensora_adacache.caching.codebook import Codebook
from opensora_adacache.caching.config import AdaCacheConfig
from opensora_adacache.caching.replay import Recording, replay


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

    The rates and the ratios of thresholds stay as they are. The factor is found by bisection: larger thresholds give
    larger rates, so fewer computed steps (nearly: a schedule may jump either way by a step).

    Raises:
        ValueError: the codebook's rates cannot give that speedup; the message names the range they can.
    """
    num_steps = recordings[0].num_steps
    target = num_steps / speedup

    def steps_at(factor: float) -> float:
        scaled = replace(config, codebook=scale_codebook(config.codebook, factor))
        return mean_computed_steps(scaled, recordings)

    low, high = 1e-4, 1e4
    most, fewest = steps_at(low), steps_at(high)
    if not fewest <= target <= most:
        raise ValueError(
            f"these rates reach speedups of {num_steps / most:.2f} to {num_steps / fewest:.2f} over {num_steps} steps, "
            f"got {speedup:g}: choose one between, or a codebook of other rates"
        )
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if steps_at(middle) > target else (low, middle)
    best = min((low, high), key=lambda factor: abs(steps_at(factor) - target))
    return replace(config, codebook=scale_codebook(config.codebook, best))
