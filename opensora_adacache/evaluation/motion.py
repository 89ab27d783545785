"""How a video moves, against the uncached one. Videos are [3, F, H, W] in -1..1."""

from __future__ import annotations

from typing import Any

import numpy as np


def flicker(frames: Any) -> float:
    """Return the mean absolute change from frame to frame on a scale of 0 to 1; 0 for a single frame.

    VBench's temporal flickering is 1 minus this, on 8-bit values over 255. Motion changes frames too: compare it on
    clips that stand still, or with the baseline's of the same prompt.

    >>> flicker(np.zeros((3, 4, 2, 2)))
    0.0
    """
    changes = frame_changes(frames)
    return float(np.abs(changes).mean() / 2) if changes.size else 0.0


def motion_error(frames: Any, reference: Any) -> float | None:
    """Return ‖Δ − Δ_ref‖₁ / ‖Δ_ref‖₁, Δ the changes from frame to frame: 0 where the video moves as the reference does.

    About 1 for a video that stands still or moves unrelated; None where the reference has no change at all.

    Raises:
        ValueError: the shapes differ.
    """
    if np.shape(frames) != np.shape(reference):
        raise ValueError(f"videos to compare must have one shape, got {np.shape(frames)} and {np.shape(reference)}")
    changes, expected = frame_changes(frames), frame_changes(reference)
    norm = np.abs(expected).sum()
    return float(np.abs(changes - expected).sum() / norm) if norm else None


def frame_changes(frames: Any) -> np.ndarray:
    """Return the differences [3, F − 1, H, W] of neighbouring frames."""
    return np.diff(np.asarray(frames, dtype=np.float64), axis=1)
