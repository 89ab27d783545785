"""Flicker and motion error of videos, as pure functions of pixels.

Videos are [3, F, H, W] in −1..1; other values are clamped. Changes are fractions of the range from black to white, so
1/255 is one level of an 8-bit file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from opensora_adacache.metrics.frames import frame_pairs, frames_of

_RANGE = 2.0  # from −1, black, to 1, white


def flicker(frames: Any) -> float:
    """Return how far pixels deviate from both neighbouring frames, in 0..1; 0 for fewer than three frames.

    This is the mean absolute difference between each frame and the temporal median of itself and its two neighbours,
    that is, the impulse that a temporal median filter removes. A pixel that brightens or darkens steadily, or that a
    moving edge passes once, does not count; one that jumps up and back does. The metric is therefore meaningful for
    moving videos too. VBench's "temporal flickering" (Huang et al., 2024) is one minus the mean absolute difference of
    adjacent frames, which motion also changes, and is applied to prompts without motion.
    """
    return _mean(
        abs(middle - np.clip(middle, np.minimum(before, after), np.maximum(before, after))).mean() / _RANGE
        for before, middle, after in _triples(frames_of(frames))
    )


def motion_error(frames: Any, reference: Any) -> float:
    """Return the motion error in 0..1: 0 if the motion equals the reference's, 1 if nothing agrees.

    With d and r the differences of adjacent frames of the video and its reference, it is Σ|d − r| / (Σ|d| + Σ|r|). Two
    still videos give 0. A frozen video with a moving reference gives 1, and so does a moving video with a still
    reference. Because the denominator includes both, the metric is bounded and defined for still references, but if
    both videos are nearly still it compares noise.

    Raises:
        ValueError: the shapes differ.
    """
    error = total = 0.0
    for (one, other), (next_one, next_other) in pairwise(frame_pairs(frames, reference)):
        step, expected = next_one - one, next_other - other
        error += abs(step - expected).sum()
        total += abs(step).sum() + abs(expected).sum()
    return min(float(error / total), 1.0) if total else 0.0  # rounding can exceed 1


def _triples(frames: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return ((one, two, three) for (one, two), (_, three) in pairwise(pairwise(frames)))


def _mean(values: Iterator[Any]) -> float:
    found = [float(value) for value in values]
    return fmean(found) if found else 0.0
