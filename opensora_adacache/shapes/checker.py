"""Reads colour, shape, direction and speed from a clip with classical image processing. Uses numpy only.

In each frame, pixels far from the background colour are grouped into connected components. Over time, each component is
linked to the nearest one of the previous frame. The path of a track gives the speed and direction, its inner pixels
give the colour, and comparing its soft silhouette with drawn shapes gives the shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from opensora_adacache.shapes.render import SQUARE_HALF_SIDE, TRIANGLE_RADIUS, coverage
from opensora_adacache.shapes.scene import (
    BACKGROUNDS,
    BASE_SIZE,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SPEEDS,
    SceneSpec,
)

FOREGROUND_DISTANCE = 0.25  # smallest RGB distance of objects from the background, as a fraction of 127.5
SMALLEST_AREA = 90.0  # in pixels of a 64 pixel frame; the smallest drawn object covers about 220
_AREA_FACTOR = {
    "circle": np.pi,
    "square": 4 * SQUARE_HALF_SIDE**2,
    "triangle": TRIANGLE_RADIUS**2 * 3 * np.sqrt(3) / 4,
}


@dataclass(frozen=True)
class ObjectReading:
    """What was read about one object; the speed is in pixels per frame of a 64 pixel wide clip."""

    shape: str
    colour: str
    speed: str
    direction: str | None
    pixels_per_frame: float
    x: float
    y: float


@dataclass(frozen=True)
class ClipReading:
    """What was read from a clip: its background and its objects, largest first."""

    background: str
    objects: tuple[ObjectReading, ...]


@dataclass
class _Track:
    frames: list[int] = field(default_factory=list)
    centres: list[tuple[float, float]] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)


def label_components(mask: np.ndarray) -> list[np.ndarray]:
    """Split a mask [H, W] into its 4-connected components, each a mask of the same size."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        around = np.maximum.reduce([labels, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        around = np.where(mask, around, 0)
        if np.array_equal(around, labels):
            return [labels == value for value in np.unique(labels) if value]
        labels = around


def _nearest(colour: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: float(np.linalg.norm(np.asarray(palette[name]) - colour)))


def _shrink(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _grow(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    return mask | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _link(frames: list[list[np.ndarray]], reach: float) -> list[_Track]:
    """Link each component to the nearest free one of the previous frame within ``reach`` pixels."""
    tracks: list[_Track] = []
    for number, components in enumerate(frames):
        free = [track for track in tracks if number - track.frames[-1] <= 3]
        for mask in sorted(components, key=np.count_nonzero, reverse=True):
            rows, columns = np.nonzero(mask)
            centre = (float(columns.mean()) + 0.5, float(rows.mean()) + 0.5)
            gaps = [np.hypot(centre[0] - t.centres[-1][0], centre[1] - t.centres[-1][1]) for t in free]
            if gaps and min(gaps) <= reach:
                track = free.pop(int(np.argmin(gaps)))
            else:
                track = _Track()
                tracks.append(track)
            track.frames.append(number)
            track.centres.append(centre)
            track.masks.append(mask)
    return tracks


def _read_colour(track: _Track, pixels: np.ndarray) -> np.ndarray:
    samples = []
    for frame, mask in zip(track.frames, track.masks, strict=True):
        inner = _shrink(_shrink(mask))
        samples.append(pixels[frame][inner if inner.any() else mask])
    return np.median(np.concatenate(samples), axis=0)


def _read_shape(track: _Track, pixels: np.ndarray, ground: np.ndarray, colour: np.ndarray) -> str:
    """Return the shape whose drawing, with the same position and area, overlaps the silhouette best."""
    axis = (colour - ground) / max(float(np.sum((colour - ground) ** 2)), 1e-6)
    scores = dict.fromkeys(SHAPES, 0.0)
    for frame, mask in zip(track.frames, track.masks, strict=True):
        near = _grow(_grow(mask))
        soft = np.where(near, np.clip((pixels[frame] - ground) @ axis, 0, 1), 0).astype(np.float32)
        area = float(soft.sum())
        if area <= 0:
            continue
        x = float((soft.sum(0) * (np.arange(soft.shape[1]) + 0.5)).sum() / area)
        y = float((soft.sum(1) * (np.arange(soft.shape[0]) + 0.5)).sum() / area)
        for shape in SHAPES:
            radius = float(np.sqrt(area / _AREA_FACTOR[shape]))
            # The box of a triangle is centred above its centroid by a quarter of its outer radius.
            top = y - (TRIANGLE_RADIUS * radius / 4 if shape == "triangle" else 0.0)
            drawn = coverage(shape, x, top, radius, soft.shape)
            scores[shape] += float(np.minimum(soft, drawn).sum() / np.maximum(soft, drawn).sum())
    return max(scores, key=lambda shape: scores[shape])


def _read_motion(track: _Track, scale: float) -> tuple[float, str | None]:
    """Fit straight lines to the path; return pixels per frame (64 pixel units) and the main direction."""
    frames = np.asarray(track.frames, float)
    path = np.asarray(track.centres) / scale
    frames = frames - frames.mean()
    slope = frames @ (path - path.mean(0)) / max(float(frames @ frames), 1e-6)
    direction = max(DIRECTIONS, key=lambda name: float(np.dot(DIRECTIONS[name], slope)))
    return float(np.hypot(*slope)), direction


def classify_speed(pixels_per_frame: float) -> str:
    """Return the class of a speed given in pixels per frame of a 64 pixel wide clip.

    >>> [classify_speed(v) for v in (0.05, 0.8, 1.9)]
    ['still', 'slow', 'fast']
    """
    if pixels_per_frame < SPEEDS["slow"] / 2:
        return "still"
    return "slow" if pixels_per_frame < (SPEEDS["slow"] + SPEEDS["fast"]) / 2 else "fast"


def read_clip(clip: np.ndarray) -> ClipReading:
    """Read the background and the objects of a clip.

    Args:
        clip: [3, F, H, W] in -1..1.
    """
    pixels = (np.clip(np.asarray(clip, np.float32), -1, 1).transpose(1, 2, 3, 0) + 1) * 127.5
    scale = pixels.shape[2] / BASE_SIZE
    ground = np.median(pixels.reshape(-1, 3), axis=0)
    distance = np.linalg.norm(pixels - ground, axis=-1)
    # The largest two percent of the distances belong to objects; half-covered edge pixels have half that distance.
    threshold = max(0.45 * float(np.quantile(distance, 0.98)), FOREGROUND_DISTANCE * 127.5)
    smallest = SMALLEST_AREA * scale**2
    components = [
        [c for c in label_components(frame > threshold) if np.count_nonzero(c) >= smallest] for frame in distance
    ]
    tracks = _link(components, reach=8 * scale)
    tracks = [t for t in tracks if len(t.frames) >= max(2, len(pixels) // 2)] if len(pixels) > 1 else tracks
    objects = []
    for track in sorted(tracks, key=lambda t: -np.mean([np.count_nonzero(m) for m in t.masks])):
        colour = _read_colour(track, pixels)
        pace, direction = _read_motion(track, scale)
        speed = classify_speed(pace)
        x, y = np.mean(track.centres, axis=0) / scale
        objects.append(
            ObjectReading(
                _read_shape(track, pixels, ground, colour),
                _nearest(colour, COLOURS),
                speed,
                None if speed == "still" else direction,
                pace,
                float(x),
                float(y),
            )
        )
    return ClipReading(_nearest(ground, BACKGROUNDS), tuple(objects))


@dataclass(frozen=True)
class ClipScore:
    """Correct and requested counts for one clip, per attribute; colour and shape count once per object."""

    right: dict[str, int]
    asked: dict[str, int]


def score_clip(spec: SceneSpec, reading: ClipReading) -> ClipScore:
    """Compare what was read with what the caption says.

    Objects are paired with those of the caption so that colours, then shapes, agree as far as possible. Whether the
    first of two objects is above (or to the left of) the second counts separately, as ``arrangement``. A missing object
    is wrong in every attribute. ``direction`` applies to moving objects only, and the main direction of an object
    counts only if it was seen to move.
    """
    found: list[ObjectReading | None] = [*reading.objects[: len(spec.objects)]]
    found += [None] * (len(spec.objects) - len(found))
    found = max((list(order) for order in permutations(found)), key=lambda order: _agreement(spec, order))
    right = dict.fromkeys(("colour", "shape", "direction", "speed", "background", "count", "arrangement"), 0)
    asked = dict.fromkeys(right, 0)
    for thing, seen in zip(spec.objects, found, strict=True):
        asked["colour"] += 1
        asked["shape"] += 1
        asked["speed"] += 1
        asked["direction"] += spec.direction is not None
        if seen is not None:
            right["colour"] += thing.colour == seen.colour
            right["shape"] += thing.shape == seen.shape
            right["speed"] += spec.speed == seen.speed
            right["direction"] += spec.direction is not None and spec.direction == seen.direction
    asked["background"] = asked["count"] = 1
    right["background"] = int(reading.background == spec.background)
    right["count"] = int(len(reading.objects) == len(spec.objects))
    if spec.arrangement is not None:
        asked["arrangement"] = 1
        first, second = found
        if first is not None and second is not None:
            axis = "y" if spec.arrangement == "above" else "x"
            right["arrangement"] = int(getattr(first, axis) < getattr(second, axis))
    return ClipScore(right, asked)


def _agreement(spec: SceneSpec, found: Sequence[ObjectReading | None]) -> tuple[int, int]:
    """Count the objects that agree with the caption in colour, and those that agree in shape."""
    both = [(thing, seen) for thing, seen in zip(spec.objects, found, strict=True) if seen is not None]
    return sum(t.colour == s.colour for t, s in both), sum(t.shape == s.shape for t, s in both)


def add_scores(scores: Iterable[ClipScore]) -> dict[str, float]:
    """Return the fraction of correct answers per attribute over clips; NaN for attributes without a question."""
    scores = list(scores)
    names = scores[0].asked if scores else {}
    totals = {name: sum(s.asked[name] for s in scores) for name in names}
    return {
        name: sum(s.right[name] for s in scores) / total if total else float("nan") for name, total in totals.items()
    }
