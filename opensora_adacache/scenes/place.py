"""Gives the objects of scenes their sizes and paths: what is drawn in each frame."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from opensora_adacache.scenes.outlines import reach
from opensora_adacache.scenes.spec import Specs
from opensora_adacache.scenes.words import (
    BASE_SIZE,
    COLOURS,
    DIRECTIONS,
    GROUNDS,
    KINDS,
    LAYOUTS,
    MAX_OBJECTS,
    NUM_FRAMES,
    RATES,
    TURNS,
    WAYS,
)

MARGIN = 1.0
RADIUS = (10.5, 15.0)
_FIRST_RADIUS = (7.5, 8.5)  # of an object that grows, and the last of one that shrinks
_ORBIT_RADIUS = 11.0
# What moves on an orbit is so far from the centre if nothing is there, and has this gap to what is there.
_ORBIT_DISTANCE = 17.0
_ORBIT_GAP = 2.75
# What passes something goes by its centre at this distance, so that not all of what is behind is hidden.
_ASIDE = 4.0
_PERIOD = (18.0, 26.0)
_PAN_PERIOD = 30.0  # longer, for the reason in words.py


@dataclass(frozen=True)
class Scenes:
    """N scenes ready to be drawn, with K objects and F frames; float32, lengths in pixels of a ``BASE_SIZE`` frame.

    Attributes:
        shape: [N, K] index into ``SHAPES``; the first object is painted last.
        colour: [N, K, 3] in -1..1.
        x: [N, K, F] centres of the objects, in pixels from the left.
        y: [N, K, F] centres of the objects, in pixels from the top.
        radius: [N, K, F]; 0 for an object that is not there.
        angle: [N, K, F] in radians, clockwise.
        tones: [N, 2, 3] colours of the background in -1..1.
        texture: [N] index into ``TEXTURES``.
        period: [N] period of the pattern.
        upright: [N] 1 for vertical stripes and for gradients from side to side.
        shift: [N, F, 2] movement of the background, x and y, including its phase.
    """

    shape: np.ndarray
    colour: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    tones: np.ndarray
    texture: np.ndarray
    period: np.ndarray
    upright: np.ndarray
    shift: np.ndarray

    def rows(self, index: np.ndarray | slice) -> Scenes:
        """Return some of the scenes."""
        return Scenes(*(getattr(self, field.name)[index] for field in fields(self)))

    def frames(self, chosen: np.ndarray) -> Scenes:
        """Return the scenes at the frames `chosen` [N, f] of each scene."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("x", "y", "radius", "angle"):
            values[name] = np.take_along_axis(values[name], chosen[:, None], 2)
        values["shift"] = np.take_along_axis(self.shift, chosen[..., None], 1)
        return Scenes(**values)


def _unit(rgb: np.ndarray) -> np.ndarray:
    return (rgb / 127.5 - 1).astype(np.float32)


def place(specs: Specs, rng: np.random.Generator, num_frames: int = NUM_FRAMES) -> Scenes:
    """Place objects so that they stay inside the frame, in their lanes.

    Spinning objects begin upright, patterns that the camera pans over in one phase and with one period, and bouncing
    objects turn back in the middle of the clip. Orbits begin at the top, at one distance from the middle of the frame,
    and what passes something meets it there. What spins, grows, shrinks or is panned over is in the middle of its lane.
    Thus the caption and the frame tell where everything is, or how far it has turned. A model of this size does not
    learn to see what only the other frames tell.

    Args:
        specs: what to show.
        rng: generates sizes, rates and positions.
        num_frames: F.
    """
    size, slots = len(specs), np.arange(MAX_OBJECTS)
    count, kind = specs.count, specs.kind
    is_kind = {name: kind == number for number, name in enumerate(KINDS)}
    time = np.arange(num_frames)
    used = slots < count[:, None]
    arms = np.where(used, reach()[np.maximum(specs.shapes, 0)], 0.0)

    table = np.array([RATES[name] for name in KINDS])
    rate = table[kind, np.maximum(specs.speed, 0)]
    ways = np.array([WAYS.get(name, (0.0, 0.0)) for name in DIRECTIONS] + [(0.0, 0.0)])
    way = ways[specs.direction]
    turns = np.array([TURNS.get(name, 0) for name in DIRECTIONS] + [0])
    turn = turns[specs.direction]

    radius = _radii(specs, rng, rate, arms, is_kind, time)
    extent = radius * arms[..., None]

    # Paths relative to the start of each object, [N, K, F, 2].
    steps = time * rate[:, None]
    path = np.zeros((size, MAX_OBJECTS, num_frames, 2))
    straight = is_kind["move"]
    path += np.where(straight[:, None], steps, 0.0)[:, None, :, None] * way[:, None, None]
    halfway = (num_frames - 1) / 2
    bouncing = np.where(is_kind["bounce"], rate, 0.0)[:, None] * (halfway - np.abs(time - halfway))
    path += bouncing[:, None, :, None] * way[:, None, None]
    # The camera moves one way, and everything in view moves the other way.
    panning = np.where(is_kind["pan"][:, None], -steps, 0.0)[..., None] * way[:, None]
    path += panning[:, None]
    path += _orbits(specs, rate * turn, extent, is_kind["orbit"], time)
    path += _passes(steps, way, is_kind["pass"])

    # Possible range of the start, [N, K, 2], such that the whole path stays inside the lane.
    low, high = np.zeros((size, MAX_OBJECTS, 2)), np.full((size, MAX_OBJECTS, 2), float(BASE_SIZE))
    width = BASE_SIZE / count[:, None]
    for name, axis in (("beside", 0), ("above", 1)):
        laned = (specs.layout == LAYOUTS.index(name))[:, None]
        low[..., axis] = np.where(laned, slots * width, low[..., axis])
        high[..., axis] = np.where(laned, (slots + 1) * width, high[..., axis])
    hitting = (is_kind["bounce"][:, None] & (way != 0))[:, None]
    margin = np.where(hitting, 0.0, MARGIN)
    low = low + margin + (extent[..., None] - path).max(2)
    high = high - margin - (extent[..., None] + path).max(2)
    middle = (low + high) / 2
    low, high = np.minimum(low, middle), np.maximum(high, middle)
    draws = rng.random(low.shape)
    # What stays where it is, and what the camera pans over, has the middle of its lane as the middle of its path.
    resting = is_kind["spin"] | is_kind["grow"] | is_kind["shrink"] | is_kind["pan"]
    draws = np.where(resting[:, None, None], 0.5, draws)
    # A bouncing object touches the border at its turning point.
    draws = np.where(hitting, np.where(way > 0, 1.0, 0.0)[:, None], draws)
    start = low + draws * (high - low)
    # Paths of orbits and passes are relative to the middle of the frame.
    centred = is_kind["orbit"] | is_kind["pass"]
    start = np.where(centred[:, None, None], BASE_SIZE / 2, start)
    centre = start[:, :, None] + path

    angle = np.where(is_kind["spin"], rate * turn, 0.0)[:, None] * time
    phase = np.where(is_kind["pan"][:, None], 0.0, rng.uniform(0, BASE_SIZE, (size, 2)))

    palette = _unit(np.array(list(COLOURS.values())))
    tones = _unit(np.array(list(GROUNDS.values())))
    scenes = Scenes(
        shape=np.maximum(specs.shapes, 0),
        colour=palette[np.maximum(specs.colours, 0)],
        x=centre[..., 0].astype(np.float32),
        y=centre[..., 1].astype(np.float32),
        radius=np.where(used[..., None], radius, 0.0).astype(np.float32),
        angle=np.repeat(angle[:, None], MAX_OBJECTS, 1).astype(np.float32),
        tones=tones[specs.ground],
        texture=specs.texture,
        period=np.where(is_kind["pan"], _PAN_PERIOD, rng.uniform(*_PERIOD, size)).astype(np.float32),
        # The stripes of a pan are perpendicular to its direction.
        upright=np.where(is_kind["pan"], way[:, 0] != 0, rng.random(size) < 0.5).astype(np.float32),
        shift=(panning + phase[:, None]).astype(np.float32),
    )
    return _hide(scenes, specs.behind == 1)


def _radii(
    specs: Specs,
    rng: np.random.Generator,
    rate: np.ndarray,
    arms: np.ndarray,
    is_kind: dict[str, np.ndarray],
    time: np.ndarray,
) -> np.ndarray:
    """Return radii [N, K, F]."""
    span = len(time) - 1
    room = BASE_SIZE / specs.count / 2 - MARGIN
    growing = is_kind["grow"] | is_kind["shrink"]
    gain = np.where(growing, rate * span, 0.0)[:, None, None]
    travel = np.where(is_kind["move"] | is_kind["pan"] | is_kind["pass"], rate * span, 0.0)
    along = (BASE_SIZE - travel) / 2 - MARGIN
    most = np.minimum(room, along)[:, None] / np.maximum(arms, 0.9)
    # An orbit needs space for the object in the middle and twice the other object around it, with a gap.
    around = (BASE_SIZE / 2 - MARGIN - _ORBIT_GAP) / np.maximum(2 * arms[:, 0] + arms[:, 1], 0.9)
    orbit = np.minimum(_ORBIT_RADIUS, np.where(specs.count == 2, around, np.inf))
    most = np.where(is_kind["orbit"][:, None], np.minimum(most, orbit[:, None]), most)
    low, high = RADIUS
    # Of two objects that pass each other, both are whole in the first and the last frame.
    apart = travel / 2 / (arms[:, 0] + arms[:, 1])
    most = np.where(is_kind["pass"][:, None], np.minimum(most, apart[:, None]), most)
    first = rng.uniform(low, high, arms.shape)
    first = np.where(growing[:, None], rng.uniform(*_FIRST_RADIUS, arms.shape), first)
    first = np.minimum(first, most - gain[..., 0])
    progress = np.where(is_kind["shrink"][:, None], span - time, time) / max(span, 1)
    return first[..., None] + gain * progress[:, None]


def _orbits(specs: Specs, rate: np.ndarray, extent: np.ndarray, chosen: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return paths [N, K, F, 2] around a centre: the object in slot 0 circles, the one in slot 1, if any, stays."""
    around = extent[:, 0, 0] + extent[:, 1, 0] + _ORBIT_GAP
    distance = np.where(specs.count == 1, _ORBIT_DISTANCE, around)
    phase = rate[:, None] * time - np.pi / 2
    circle = distance[:, None, None] * np.stack([np.cos(phase), np.sin(phase)], -1)
    path = np.zeros((len(specs), MAX_OBJECTS, len(time), 2))
    path[:, 0] = np.where(chosen[:, None, None], circle, 0.0)
    return path


def _passes(steps: np.ndarray, way: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return paths [N, K, F, 2] across a centre for the object in slot 0; the one in slot 1 stays."""
    across = way[:, ::-1] * np.array([-1.0, 1.0])
    line = (steps - steps[:, -1:] / 2)[..., None] * way[:, None] + _ASIDE * across[:, None]
    path = np.zeros((len(way), MAX_OBJECTS, steps.shape[1], 2))
    path[:, 0] = np.where(chosen[:, None, None], line, 0.0)
    return path


def _hide(scenes: Scenes, behind: np.ndarray) -> Scenes:
    """Swap the first two objects if the second hides the first: the last painted is in front."""
    values = {field.name: getattr(scenes, field.name) for field in fields(scenes)}
    for name in ("shape", "colour", "x", "y", "radius", "angle"):
        swapped = values[name].copy()
        swapped[behind, 0], swapped[behind, 1] = values[name][behind, 1], values[name][behind, 0]
        values[name] = swapped
    return Scenes(**values)
