"""Reads the background of a clip: its colour, its texture and the movement of the camera. Uses numpy only."""

from __future__ import annotations

import numpy as np

from opensora_adacache.scenes.silhouettes import chroma, grow
from opensora_adacache.scenes.words import BASE_SIZE, GROUNDS

_PLAIN_DEVIATION = 5.0  # of the lightness in 0..255; patterns have about 20, gradients 12
_TINT = 4.0  # weight of a difference in tint against one in lightness
_GAP = 2  # interval in frames between compared frames
_LARGEST_STEP = 9.0  # pixels of a 96 pixel frame over this interval: half the shortest period of a pattern
_STILL_BIAS = 0.02  # squared lightness per pixel of movement: moves along stripes look alike, so prefer none


def _means(values: np.ndarray, seen: np.ndarray, axis: int) -> np.ndarray:
    """Return the means of visible values along an axis; where none is visible, the mean of all values."""
    count = seen.sum(axis)
    total = np.where(seen, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), values[seen].mean())


def read_ground(pixels: np.ndarray) -> tuple[str, str]:
    """Return the names of background colour and texture of frames [F, H, W, 3] in 0..255."""
    votes: dict[tuple[str, str], int] = {}
    for frame in pixels[:: max(1, len(pixels) // 5)]:
        seen = _unhidden(frame)
        key = (_name(frame[seen].mean(0)), _texture(frame.mean(-1), seen))
        votes[key] = votes.get(key, 0) + 1
    return max(votes, key=lambda key: votes[key])


def _unhidden(frame: np.ndarray) -> np.ndarray:
    """Return the pixels [H, W] of a frame that no object covers, edges excluded."""
    colourful = np.linalg.norm(chroma(frame), axis=-1) > 50
    seen = ~grow(grow(colourful))
    return seen if seen.any() else np.ones_like(seen)


def _name(colour: np.ndarray) -> str:
    """Return the name of a background colour [3]. Tint tells more than lightness: a dark gray is no brown."""

    def difference(name: str) -> float:
        step = np.mean(GROUNDS[name], 0) - colour
        return abs(float(step.mean())) + _TINT * float(np.linalg.norm(chroma(step)))

    return min(GROUNDS, key=difference)


def _texture(lightness: np.ndarray, seen: np.ndarray) -> str:
    values = lightness[seen]
    if values.std() < _PLAIN_DEVIATION:
        return "plain"
    across, along = _means(lightness, seen, 0), _means(lightness, seen, 1)
    best = 0.0
    for profile, picture in (
        (across, np.broadcast_to(across, lightness.shape)),
        (along, along[:, None] + 0 * lightness),
    ):
        explained = 1 - (lightness - picture)[seen].var() / values.var()
        if explained > best:
            best, chosen = explained, profile
    if best > 0.6:
        place = np.arange(len(chosen)) - (len(chosen) - 1) / 2
        line = np.polyfit(place, chosen, 1)
        bent = (chosen - np.polyval(line, place)).var() / max(chosen.var(), 1e-6)
        return "graded" if bent < 0.3 else "striped"
    # Half of a checkerboard is light; dots cover a quarter, in either tone.
    low, high = np.quantile(values, (0.03, 0.97))
    light = float((values > (low + high) / 2).mean())
    return "checkered" if abs(light - 0.5) < 0.13 else "dotted"


def read_pan(pixels: np.ndarray) -> np.ndarray:
    """Return the movement of the background in pixels per frame [x, y] of a 96 pixel frame, the median over frames.

    Objects are excluded; two frames are compared only where neither is covered.
    """
    lightness = pixels.mean(-1)
    seen = np.stack([_unhidden(frame) for frame in pixels])
    scale = pixels.shape[2] / BASE_SIZE
    steps = [
        _step(lightness[i], lightness[i + _GAP], seen[i], seen[i + _GAP], scale)
        for i in range(0, len(pixels) - _GAP, 2)
    ]
    return np.median(steps, axis=0) / _GAP


def _step(
    before: np.ndarray, after: np.ndarray, seen_before: np.ndarray, seen_after: np.ndarray, scale: float
) -> np.ndarray:
    """Return how far the background moved between two frames, by comparing all moves along either axis."""
    reach = int(_LARGEST_STEP * scale)
    best, moved = np.inf, np.zeros(2)
    for axis in (1, 0):
        shifts = np.arange(-reach, reach + 1)
        errors = np.array([_difference(before, after, seen_before, seen_after, int(shift), axis) for shift in shifts])
        errors += _STILL_BIAS * np.abs(shifts)
        low = int(errors.argmin())
        if errors[low] < best - 1e-9:
            best = errors[low]
            moved = np.zeros(2)
            moved[1 - axis] = (low - reach + _vertex(errors, low)) / scale
    return moved


def _difference(
    before: np.ndarray, after: np.ndarray, seen_before: np.ndarray, seen_after: np.ndarray, shift: int, axis: int
) -> float:
    both = seen_after & np.roll(seen_before, shift, axis)
    inside = [slice(None), slice(None)]
    inside[axis] = slice(max(shift, 0), before.shape[axis] + min(shift, 0))
    window = tuple(inside)
    chosen = both[window]
    if not chosen.any():
        return np.inf
    return float(((after - np.roll(before, shift, axis))[window][chosen] ** 2).mean())


def _vertex(errors: np.ndarray, low: int) -> float:
    """Return the sub-sample position, in -0.5..0.5, of the minimum of errors that are shaped like a V."""
    if not 0 < low < len(errors) - 1:
        return 0.0
    left, right = errors[low - 1] - errors[low], errors[low + 1] - errors[low]
    return float(np.clip((left - right) / (2 * max(left, right, 1e-9)), -0.5, 0.5))
