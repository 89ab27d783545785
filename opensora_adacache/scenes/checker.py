"""Reads a clip without any learned model and compares it with its caption. Uses numpy only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from opensora_adacache.scenes.backgrounds import read_ground, read_pan
from opensora_adacache.scenes.outlines import AREA
from opensora_adacache.scenes.paths import Motion, nearest_way, read_motion
from opensora_adacache.scenes.silhouettes import Silhouette, overlap, roundness_error, silhouettes, turn
from opensora_adacache.scenes.spec import Spec
from opensora_adacache.scenes.words import ATTRIBUTES, LAYOUTS, RATES, SHAPES, SPEEDS, STRAIGHT, SYMMETRY

_LEAST_PAN = 0.3  # pixels per frame


@dataclass(frozen=True)
class ThingReading:
    """What was read about one object: its mean position in pixels, and how much its outline differs from the shape.

    Attributes:
        shape_error: 1 minus the mean intersection over union with the best fitting shape.
        roundness_error: relative deviation of the radius over directions, for circles; NaN for other shapes.
    """

    colour: str
    shape: str
    motion: Motion
    x: float
    y: float
    shape_error: float
    roundness_error: float


@dataclass(frozen=True)
class Reading:
    """What was read from a clip."""

    ground: str
    texture: str
    things: tuple[ThingReading, ...]
    number: int
    kind: str
    speed: str | None
    direction: str | None
    behind: bool


def speed_name(kind: str, rate: float) -> str | None:
    """Return the name of the speed that is nearest to a rate by ratio; None if nothing moves.

    >>> speed_name("move", 1.1)
    'slow'
    """
    if kind == "still":
        return None
    return min(SPEEDS, key=lambda name: abs(math.log(max(rate, 1e-6) / RATES[kind][SPEEDS.index(name)])))


def read_clip(clip: np.ndarray) -> Reading:
    """Read a clip [3, F, H, W] in -1..1."""
    pixels = (np.clip(np.asarray(clip, np.float32), -1, 1).transpose(1, 2, 3, 0) + 1) * 127.5
    ground, texture = read_ground(pixels)
    tracks: dict[str, dict[int, Silhouette]] = {}
    for number, frame in enumerate(pixels):
        for colour, silhouette in silhouettes(frame).items():
            tracks.setdefault(colour, {})[number] = silhouette
    tracks = {colour: track for colour, track in tracks.items() if len(track) >= max(1, len(pixels) // 2)}
    things = tuple(_read_thing(colour, track) for colour, track in tracks.items())
    pieces = sum(Counter(seen.pieces for seen in track.values()).most_common(1)[0][0] for track in tracks.values())
    pan = read_pan(pixels) if texture not in ("plain", "graded") and len(pixels) > 2 else np.zeros(2)
    motion, behind = _whole_motion(things, tracks, pan)
    return Reading(
        ground,
        texture,
        things,
        pieces,
        motion.kind,
        speed_name(motion.kind, motion.rate),
        motion.direction,
        behind,
    )


def _read_thing(colour: str, track: dict[int, Silhouette]) -> ThingReading:
    # While something hides part of an object, its outline is not its own shape. Where nothing can, its area may change.
    full = max(seen.area for seen in track.values())
    smallest = min(seen.area for seen in track.values())
    steady = {number: seen for number, seen in track.items() if seen.free or seen.area > 0.96 * full}
    if len(steady) < 5:
        steady = {number: seen for number, seen in track.items() if seen.area > 0.88 * full}
    growing = smallest < 0.9 * full and _is_monotonic([seen.area for seen in track.values()])
    whole = track if growing else steady
    numbers = np.array(sorted(whole))
    samples = [whole[n] for n in numbers[:: max(1, len(numbers) // 6)]]
    scores = {shape: float(np.mean([overlap(shape, seen) for seen in samples])) for shape in SHAPES}
    shape = max(scores, key=lambda name: scores[name])
    order = SYMMETRY[shape]
    angle = np.zeros(len(numbers))
    if order:
        angle = np.unwrap([turn(shape, whole[n]) * order for n in numbers]) / order
    if len(numbers) < 5:
        # Hidden most of the time: its visible part still shows where it goes.
        numbers = np.array(sorted(number for number, seen in track.items() if seen.area > 0.4 * full))
        whole, angle = track, np.zeros(len(numbers))
    path = np.array([(whole[n].x, whole[n].y) for n in numbers])
    radius = np.array([math.sqrt(whole[n].area / AREA) for n in numbers])
    rounded = float(np.mean([roundness_error(seen) for seen in samples])) if shape == "circle" else math.nan
    x, y = path.mean(0)
    motion = read_motion(numbers, path, radius, angle)
    return ThingReading(colour, shape, motion, float(x), float(y), 1 - scores[shape], rounded)


def _is_monotonic(areas: list[float]) -> bool:
    steps = np.diff(areas)
    return bool((steps > -0.03 * max(areas)).all() or (steps < 0.03 * max(areas)).all())


def _whole_motion(
    things: tuple[ThingReading, ...], tracks: dict[str, dict[int, Silhouette]], pan: np.ndarray
) -> tuple[Motion, bool]:
    """Return the motion of the clip and whether the passing object is behind the other."""
    if np.hypot(*pan) > _LEAST_PAN:
        return Motion("pan", float(np.hypot(*pan)), nearest_way(-pan, STRAIGHT)), False
    if not things:
        return Motion("still", 0.0, None), False
    motions = [thing.motion for thing in things]
    orbits = [motion for motion in motions if motion.kind == "orbit"]
    if orbits:
        return orbits[0], False
    if len(things) == 2 and any(motion.kind == "move" for motion in motions):
        other, mover = sorted(things, key=_pace)
    if len(things) == 2 and any(motion.kind == "move" for motion in motions) and _pace(other) < 0.25 * _pace(mover):
        direction = nearest_way(_way(tracks[mover.colour]), STRAIGHT)
        behind = _least_share(tracks[mover.colour]) < _least_share(tracks[other.colour])
        return Motion("pass", mover.motion.rate, direction), behind
    kind, _ = Counter(motion.kind for motion in motions).most_common(1)[0]
    same = [motion for motion in motions if motion.kind == kind]
    way = Counter(motion.direction for motion in same).most_common(1)[0][0]
    return Motion(kind, float(np.median([motion.rate for motion in same])), way), False


def _pace(thing: ThingReading) -> float:
    """Return the straight speed of an object; one that is hidden for a while appears to move a little."""
    return thing.motion.rate if thing.motion.kind == "move" else 0.0


def _way(track: dict[int, Silhouette]) -> np.ndarray:
    first, last = track[min(track)], track[max(track)]
    return np.array([last.x - first.x, last.y - first.y])


def _least_share(track: dict[int, Silhouette]) -> float:
    areas = [seen.area for seen in track.values()]
    return min(areas) / max(areas) if len(areas) > 15 else 0.0


@dataclass(frozen=True)
class Score:
    """Correct and requested counts for one clip, per attribute; colour and shape count once per object."""

    right: dict[str, int]
    asked: dict[str, int]


def score_clip(spec: Spec, reading: Reading) -> Score:
    """Compare what was read with what the caption says.

    Objects are identified by their colours, which differ within a clip. A missing object is wrong in colour and shape.
    ``arrangement`` is whether the objects are in the order of the caption along the axis of the layout.
    """
    right, asked = dict.fromkeys(ATTRIBUTES, 0), dict.fromkeys(ATTRIBUTES, 0)
    seen = {thing.colour: thing for thing in reading.things}
    for thing in spec.things:
        asked["colour"] += 1
        asked["shape"] += 1
        right["colour"] += thing.colour in seen
        right["shape"] += thing.colour in seen and seen[thing.colour].shape == thing.shape
    answers = {
        "number": reading.number == len(spec.things),
        "kind": reading.kind == spec.kind,
        "ground": reading.ground == spec.ground,
        "texture": reading.texture == spec.texture,
    }
    if spec.speed is not None:
        answers["speed"] = reading.speed == spec.speed
    if spec.direction is not None:
        answers["direction"] = reading.direction == spec.direction
    if spec.layout != LAYOUTS[0]:
        order = [seen[thing.colour] for thing in spec.things if thing.colour in seen]
        places = [thing.y if spec.layout == "above" else thing.x for thing in order]
        answers["arrangement"] = len(order) == len(spec.things) and places == sorted(places)
    if spec.kind == "pass":
        answers["occlusion"] = reading.kind == "pass" and reading.behind == spec.behind
    for name, answer in answers.items():
        asked[name], right[name] = 1, int(answer)
    return Score(right, asked)


def shares(scores: Iterable[Score]) -> dict[str, float]:
    """Return the fraction of correct answers per attribute over clips; NaN for attributes without a question."""
    scores = list(scores)
    asked = {name: sum(score.asked[name] for score in scores) for name in ATTRIBUTES}
    right = {name: sum(score.right[name] for score in scores) for name in ATTRIBUTES}
    return {name: right[name] / asked[name] if asked[name] else math.nan for name in ATTRIBUTES}
