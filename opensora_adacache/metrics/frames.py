"""Iterate over the frames of videos and pairs of videos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def frames_of(video: Any) -> Iterator[np.ndarray]:
    """Yield the frames [3, H, W] of a video [3, F, H, W] in float64, clamped to −1..1 like in a file.

    The frames come one at a time, because a whole 720p video in float64 takes more than a gigabyte.

    Raises:
        ValueError: the shape is not that of a video.
    """
    pixels = np.asarray(video)
    if pixels.ndim != 4 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise ValueError(f"expected a video [3, F, H, W] with F, H, W of at least 1, got {pixels.shape}")
    return (np.clip(pixels[:, index].astype(np.float64), -1, 1) for index in range(pixels.shape[1]))


def frame_pairs(frames: Any, reference: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of frames of a video and its reference.

    Raises:
        ValueError: the shapes differ, or are not those of videos.
    """
    one, other = np.shape(frames), np.shape(reference)
    if one != other:
        raise ValueError(
            f"videos to compare must have the same shape [3, F, H, W], got {tuple(one)} and {tuple(other)}; "
            "make both with the same size and length"
        )
    return zip(frames_of(frames), frames_of(reference), strict=True)
