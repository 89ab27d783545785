"""Bootstrap confidence intervals over prompts, for a mean over videos.

Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979), percentile intervals. Videos of one prompt with
different seeds resemble each other, so the bootstrap resamples whole prompts (a cluster bootstrap). Resampling
single videos would make the intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    Attributes:
        mean: mean of all values.
        low: lower end of the interval, or None if there is only one cluster to resample.
        high: upper end of the interval, or None if there is only one cluster.
    """

    mean: float
    low: float | None
    high: float | None


def bootstrap_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean of values and its bootstrap interval.

    Args:
        values: one per video.
        clusters: the prompt of each value. With None, each value is its own cluster.
        confidence: fraction of the resampled means that lie inside the interval.
        num_resamples: number of resamples. Each draws as many clusters as there are, with replacement.
        seed: seed of the draws. The same values, clusters and seed give the same interval.

    Raises:
        ValueError: there are no values, a value is not finite, there are not as many clusters as values, or
            `confidence` or `num_resamples` is out of range.

    >>> bootstrap_interval([1.0, 2.0, 3.0, 4.0])
    Interval(mean=2.5, low=1.5, high=3.5)
    """
    data = np.asarray(values, dtype=np.float64)
    keys = list(range(len(data))) if clusters is None else list(clusters)
    _check(data, keys, confidence, num_resamples)
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    rows = [places[key] for key in keys]
    sums, counts = np.bincount(rows, weights=data), np.bincount(rows)
    mean = float(data.mean())
    if len(places) == 1:
        return Interval(mean, None, None)
    drawn = np.random.default_rng(seed).integers(len(places), size=(num_resamples, len(places)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(mean, float(low), float(high))


def bootstrap_difference(
    values: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean of value − baseline over the same videos, and its bootstrap interval.

    The differences are paired, so prompts that are hard for both do not widen the interval. If the interval excludes
    0, the two differ at this confidence.

    Raises:
        ValueError: the two lists differ in length, or any error of `bootstrap_interval`.
    """
    if len(values) != len(baseline):
        raise ValueError(
            f"paired values must be of the same videos, got {len(values)} and {len(baseline)}; compare what both made"
        )
    differences = np.subtract(values, baseline, dtype=np.float64)
    return bootstrap_interval(differences.tolist(), clusters, confidence, num_resamples, seed)


def _check(values: np.ndarray, clusters: Sequence[Hashable], confidence: float, num_resamples: int) -> None:
    if values.ndim != 1 or not len(values):
        raise ValueError(f"an interval needs a list of at least one value, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"values must be finite, got {values[~np.isfinite(values)][0]}; leave out values that were not measured"
        )
    if len(clusters) != len(values):
        raise ValueError(f"expected one cluster for each of {len(values)} values, got {len(clusters)}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 is usual")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}; 2000 is usual")
