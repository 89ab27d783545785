"""Confidence intervals that hold for many paired differences at once.

The band is that of the studentized maximum (max-t): each resample of the prompts gives every mean difference a
deviation in units of its own standard error, and the quantile of the largest deviation widens all intervals alike. With
the given probability, all intervals hold together, so the largest or smallest of the differences may be picked after
they were seen. See Westfall and Young, "Resampling-Based Multiple Testing" (1993), and Romano and Wolf (2005) on
stepwise tests with the same statistic.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from opensora_adacache.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Sample:
    """Differences of the videos of one experiment, which share their prompts.

    Attributes:
        clusters: the prompt of each video. The videos of a prompt are resampled together.
        differences: name of a comparison → one difference per video; NaN where a video is left out.
    """

    clusters: Sequence[Hashable]
    differences: Mapping[Hashable, Sequence[float]]


def simultaneous_intervals(
    samples: Sequence[Sample], confidence: float = 0.95, num_resamples: int = 10000, seed: int = 0
) -> list[dict[Hashable, Interval]]:
    """Return for each sample the mean of every comparison, with intervals that hold for all of them at once.

    Prompts of different samples are resampled independently. A comparison whose resampled means do not vary, such as
    one with a single prompt, gets no interval.

    Raises:
        ValueError: a comparison has no difference, or not as many as there are videos.

    >>> sample = Sample([0, 1, 2, 3], {"a": [1.0, 2.0, 3.0, 4.0], "b": [0.0, 0.1, 0.0, 0.1]})
    >>> found = simultaneous_intervals([sample])[0]
    >>> found["a"].mean, found["a"].low < 1.5, found["a"].high > 3.5  # by itself it has [1.5, 3.5]
    (2.5, True, True)
    """
    generator = np.random.default_rng(seed)
    means, spreads, deviations = [], [], []
    for sample in samples:
        mean, drawn = _resample(sample, num_resamples, generator)
        spread = drawn.std(axis=0, ddof=1)
        varies = spread > 1e-12 * np.maximum(abs(mean), 1e-12)
        means.append(mean)
        spreads.append(np.where(varies, spread, 0.0))
        if varies.any():
            deviations.append((abs(drawn - mean)[:, varies] / spread[varies]).max(axis=1))
    largest = np.max(deviations, axis=0) if deviations else np.zeros(1)
    width = float(np.quantile(largest, confidence))
    return [
        {
            name: Interval(float(m), float(m - width * s), float(m + width * s))
            if s
            else Interval(float(m), None, None)
            for name, m, s in zip(sample.differences, mean, spread, strict=True)
        }
        for sample, mean, spread in zip(samples, means, spreads, strict=True)
    ]


def _resample(sample: Sample, num_resamples: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each comparison [comparisons] and its resampled means [resamples, comparisons]."""
    values = np.array([list(row) for row in sample.differences.values()], dtype=np.float64).T  # [videos, comparisons]
    if len(values) != len(sample.clusters):
        raise ValueError(f"expected one difference for each of {len(sample.clusters)} videos, got {len(values)}")
    counted = ~np.isnan(values)
    if not counted.any(axis=0).all():
        raise ValueError("a comparison has no video that both sides made; compare what has videos in common")
    places = {key: place for place, key in enumerate(dict.fromkeys(sample.clusters))}
    rows = np.array([places[key] for key in sample.clusters])
    sums = np.zeros((len(places), values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, rows, np.where(counted, values, 0.0))
    np.add.at(counts, rows, counted.astype(float))
    mean = sums.sum(axis=0) / counts.sum(axis=0)
    times = generator.multinomial(len(places), np.full(len(places), 1 / len(places)), size=num_resamples).astype(float)
    totals = times @ counts
    # a resample without any video of a comparison says nothing about it
    return mean, np.where(totals > 0, times @ sums / np.maximum(totals, 1), mean)
