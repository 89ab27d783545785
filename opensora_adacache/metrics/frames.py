"""Pairs of frames of two videos that are compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def frames_of(video: Any) -> Iterator[np.ndarray]:
    """Yield the frames [3, H, W] of a video [3, F, H, W] in float64, values beyond −1..1 clamped as a file would.

    One frame at a time: a whole video at 720p in float64 takes more than a gigabyte.

    Raises:
        ValueError: the shape is no video.
    """
    pixels = np.asarray(video)
    if pixels.ndim != 4 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise ValueError(f"expected a video [3, F, H, W] with F, H, W of at least 1, got {pixels.shape}")
    return (np.clip(pixels[:, index].astype(np.float64), -1, 1) for index in range(pixels.shape[1]))


def frame_pairs(frames: Any, reference: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the frames of a video beside those of its reference.

    Raises:
        ValueError: their shapes differ, or are no video.
    """
    one, other = np.shape(frames), np.shape(reference)
    if one != other:
        raise ValueError(
            f"videos to compare must have one shape [3, F, H, W], got {tuple(one)} and {tuple(other)}; "
            "make both with the same size and length"
        )
    return zip(frames_of(frames), frames_of(reference), strict=True)
