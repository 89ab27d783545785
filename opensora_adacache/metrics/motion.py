"""How a video flickers, and how wrong it moves: pure functions on pixels.

Videos are [3, F, H, W] in −1..1, values beyond are clamped. Changes are given as a fraction of the range from black to
white, so 1/255 is one level of an 8-bit file.
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
    """Return how far pixels stand out from the frame before and the frame after, 0..1; 0 for fewer than three frames.

    The mean absolute difference of each frame to the median over time of itself and its two neighbours, the impulse
    that a temporal median filter removes. A pixel that brightens or darkens steadily, or that a moving edge passes
    once, does not count; one that jumps up and back does. So it can be read for videos that move. VBench's "temporal
    flickering" (Huang et al., 2024) is one minus the mean absolute difference of adjacent frames, which motion changes
    too, and is applied to prompts that ask for no motion.
    """
    return _mean(
        abs(middle - np.clip(middle, np.minimum(before, after), np.maximum(before, after))).mean() / _RANGE
        for before, middle, after in _triples(frames_of(frames))
    )


def motion_error(frames: Any, reference: Any) -> float:
    """Return how wrong the motion is, 0..1: 0 if it is the reference's, 1 if nothing of it is.

    With d and r the differences of adjacent frames of the video and of its reference, Σ|d − r| / (Σ|d| + Σ|r|). Of two
    still videos it is 0; a frozen video has 1 beside a moving one, and so has one that moves where the reference is
    still. Divided by both, not by the reference alone, it has a bound and exists for still references, but where both
    are nearly still it compares noise.

    Raises:
        ValueError: the shapes differ.
    """
    error = total = 0.0
    for (one, other), (next_one, next_other) in pairwise(frame_pairs(frames, reference)):
        step, expected = next_one - one, next_other - other
        error += abs(step - expected).sum()
        total += abs(step).sum() + abs(expected).sum()
    return min(float(error / total), 1.0) if total else 0.0  # rounding may pass 1


def _triples(frames: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return ((one, two, three) for (one, two), (_, three) in pairwise(pairwise(frames)))


def _mean(values: Iterator[Any]) -> float:
    found = [float(value) for value in values]
    return fmean(found) if found else 0.0
