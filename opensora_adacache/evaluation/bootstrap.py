"""Bootstrap intervals of means, over prompts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean and the interval it lies in."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean and its percentile bootstrap interval.

    Args:
        values: one for each video.
        clusters: names what is drawn together, such as the prompt of each value; None: every value alone.
        confidence: share of resampled means inside the interval.
        num_resamples: draws.
        seed: of the draws.

    >>> bootstrap_interval([2.0, 2.0, 2.0])
    Interval(mean=2.0, low=2.0, high=2.0)
    """
    names = list(clusters) if clusters is not None else list(range(len(values)))
    groups: dict[Hashable, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(name, []).append(value)
    sums = np.array([sum(group) for group in groups.values()])
    counts = np.array([len(group) for group in groups.values()])
    drawn = np.random.default_rng(seed).integers(len(sums), size=(num_resamples, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))
