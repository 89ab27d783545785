"""The generated data set: captioned clips of moving shapes, determined by (seed, index) alone.

A hash selects a fixed eighth of all attribute combinations, which never occur in training; ``heldout_prompts`` draws
from them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from opensora_adacache.shapes.captions import NUM_PARAPHRASES, write_caption
from opensora_adacache.shapes.render import half_extent, render_frames
from opensora_adacache.shapes.scene import (
    ARRANGEMENTS,
    BACKGROUNDS,
    BASE_SIZE,
    COLOURS,
    DIRECTIONS,
    NUM_FRAMES,
    OPPOSITE,
    SHAPES,
    SPEEDS,
    ObjectSpec,
    Scene,
    SceneObject,
    SceneSpec,
)

if TYPE_CHECKING:
    from torch import Tensor

PAIR_SHARE = 0.3
HELD_OUT_ONE_IN = 8
NUM_HELD_OUT = 1458
"""Number of all held-out combinations."""
RADIUS = (10.5, 13.0)
MARGIN = 1.0


def is_held_out(spec: SceneSpec) -> bool:
    """Return whether a combination of attributes is excluded from training."""
    digest = hashlib.sha256(spec.key().encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


def draw_spec(generator: np.random.Generator, *, held_out: bool = False, pair_share: float = PAIR_SHARE) -> SceneSpec:
    """Draw a combination of attributes from the training part or from the held-out part."""
    while True:
        count = 2 if generator.random() < pair_share else 1
        colours = generator.choice(list(COLOURS), size=count, replace=False)
        shapes = generator.choice(SHAPES, size=count)
        objects = tuple(ObjectSpec(str(s), str(c)) for s, c in zip(shapes, colours, strict=True))
        speed = str(generator.choice(list(SPEEDS)))
        direction = str(generator.choice(list(DIRECTIONS))) if speed != "still" else None
        arrangement = None
        if count == 2:
            arrangement = str(generator.choice(ARRANGEMENTS))
            if direction is not None:
                arrangement = "above" if direction in ("left", "right") else "beside"
        background = str(generator.choice(list(BACKGROUNDS)))
        spec = SceneSpec(objects, background, speed, direction, arrangement)
        if is_held_out(spec) == held_out:
            return spec


def place(spec: SceneSpec, generator: np.random.Generator, num_frames: int = NUM_FRAMES) -> Scene:
    """Give the objects of a scene sizes, speeds and paths that stay inside the frame.

    Raises:
        ValueError: there are too many frames for a moving object to stay inside.
    """
    pace = SPEEDS[spec.speed] * generator.uniform(0.95, 1.05)
    way = DIRECTIONS[spec.direction] if spec.direction else (0, 0)
    things = []
    for index, thing in enumerate(spec.objects):
        radius = float(generator.uniform(*RADIUS))
        # With two objects, the lane of each is half the frame.
        low, high = [0.0, 0.0], [float(BASE_SIZE)] * 2
        if spec.arrangement is not None:
            axis = 1 if spec.arrangement == "above" else 0
            (low if index else high)[axis] = BASE_SIZE / 2
        start = []
        for axis, extent in enumerate(half_extent(thing.shape, radius)):
            travel = way[axis] * pace * (num_frames - 1)
            first = low[axis] + extent + MARGIN + max(0.0, -travel)
            last = high[axis] - extent - MARGIN - max(0.0, travel)
            if first > last:
                raise ValueError(f"expected at most {NUM_FRAMES} frames for a moving scene, got {num_frames}")
            start.append(float(generator.uniform(first, last)))
        velocity = (way[0] * pace, way[1] * pace)
        things.append(SceneObject(thing, start[0], start[1], velocity[0], velocity[1], radius))
    return Scene(spec, tuple(things))


def make_scene(seed: int, index: int, *, held_out: bool = False, pair_share: float = PAIR_SHARE) -> tuple[Scene, str]:
    """Return scene number ``index`` of the data set with this seed, and its caption."""
    generator = np.random.default_rng([seed, index, int(held_out)])
    spec = draw_spec(generator, held_out=held_out, pair_share=pair_share)
    caption = write_caption(spec, int(generator.integers(NUM_PARAPHRASES)))
    return place(spec, generator), caption


def make_clip(seed: int, index: int, size: int = BASE_SIZE, *, held_out: bool = False) -> tuple[Tensor, str]:
    """Return clip number ``index``: frames [3, F, H, W] in -1..1 (float32) and the caption."""
    import torch

    scene, caption = make_scene(seed, index, held_out=held_out)
    pixels, _ = render_frames(scene, range(NUM_FRAMES), size)
    return torch.from_numpy(pixels).permute(3, 0, 1, 2).contiguous(), caption


def reverse(spec: SceneSpec) -> SceneSpec:
    """Return the scene that a clip shows when it is played backwards."""
    return replace(spec, direction=OPPOSITE[spec.direction]) if spec.direction else spec


def heldout_prompts(num_prompts: int, seed: int = 0) -> list[tuple[str, SceneSpec]]:
    """Return prompts whose combinations of attributes do not occur in training, without repeating a combination.

    The distributions of object count, speed, direction and background are those of training.

    Raises:
        ValueError: there are fewer combinations, or the seed is negative.
    """
    if num_prompts > NUM_HELD_OUT:
        raise ValueError(f"there are {NUM_HELD_OUT} held-out prompts, got {num_prompts}: take fewer")
    if seed < 0:
        raise ValueError(f"the seed of held-out prompts must be 0 or more, got {seed}")
    found: dict[str, tuple[str, SceneSpec]] = {}
    index = 0
    while len(found) < num_prompts:
        scene, caption = make_scene(seed, index, held_out=True)
        found.setdefault(scene.spec.key(), (caption, scene.spec))
        index += 1
    return list(found.values())
