"""Draws many random combinations of attributes at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from opensora_adacache.scenes.spec import Specs
from opensora_adacache.scenes.words import (
    COLOURS,
    DIRECTIONS,
    GROUNDS,
    KINDS,
    LAYOUTS,
    MAX_OBJECTS,
    PATTERNS,
    SHAPES,
    SPINNING,
    STRAIGHT,
    TEXTURES,
    TURNS,
    WAYS,
)

# What prompts ask for.
KIND_SHARES = {
    "still": 0.07,
    "move": 0.24,
    "bounce": 0.14,
    "spin": 0.15,
    "grow": 0.07,
    "shrink": 0.06,
    "orbit": 0.1,
    "pan": 0.08,
    "pass": 0.09,
}
# What training shows: how shapes look when turned is learned last, and so are moving grounds, passes and
# the speeds of orbits.
TRAINING_SHARES = {
    "still": 0.03,
    "move": 0.1,
    "bounce": 0.06,
    "spin": 0.2,
    "grow": 0.05,
    "shrink": 0.06,
    "orbit": 0.18,
    "pan": 0.16,
    "pass": 0.16,
}
# Of the training clips, this share gets a white ground whatever was drawn: patterns on it are learned last.
_MORE_WHITE = 0.2
COUNT_SHARES = (0.4, 0.35, 0.25)
TEXTURE_SHARES = (0.32, 0.17, 0.17, 0.17, 0.17)
# How fast several growing objects may grow, as an index into SPEEDS, so that they stay in their lanes.
_FASTEST_GROWTH = (4, 3, 1)
_ABOVE, _BESIDE = LAYOUTS.index("above"), LAYOUTS.index("beside")


def _choose(rng: np.random.Generator, names: tuple[str, ...], among: tuple[str, ...], size: int) -> np.ndarray:
    return np.array([among.index(name) for name in names])[rng.integers(len(names), size=size)]


def _draw(rng: np.random.Generator, size: int, kind_shares: dict[str, float]) -> Specs:
    kind = rng.choice(len(KINDS), size, p=[kind_shares[name] for name in KINDS])
    is_kind = {name: kind == number for number, name in enumerate(KINDS)}
    count = rng.choice(MAX_OBJECTS, size, p=COUNT_SHARES) + 1
    count = np.where(is_kind["pass"], 2, count)
    count = np.where(is_kind["orbit"], np.minimum(count, 2), count)
    used = np.arange(MAX_OBJECTS) < count[:, None]

    colours = np.where(used, rng.random((size, len(COLOURS))).argsort(1)[:, :MAX_OBJECTS], -1)
    shapes = rng.integers(len(SHAPES), size=(size, MAX_OBJECTS))
    turning = _choose(rng, SPINNING, SHAPES, size * MAX_OBJECTS).reshape(size, MAX_OBJECTS)
    shapes = np.where(used, np.where(is_kind["spin"][:, None], turning, shapes), -1)

    texture = rng.choice(len(TEXTURES), size, p=TEXTURE_SHARES)
    texture = np.where(is_kind["pan"], _choose(rng, PATTERNS, TEXTURES, size), texture)

    speed = rng.integers(5, size=size)
    fastest = np.array(_FASTEST_GROWTH)[count - 1]
    speed = np.where(is_kind["grow"] | is_kind["shrink"], rng.integers(fastest + 1), speed)
    speed = np.where(is_kind["pass"], rng.integers(3, 5, size), speed)  # a slow object would not get past
    speed = np.where(is_kind["still"], -1, speed)

    direction = np.full(size, -1)
    straight = _choose(rng, STRAIGHT, DIRECTIONS, size)
    turn = _choose(rng, tuple(TURNS), DIRECTIONS, size)
    any_way = _choose(rng, tuple(WAYS), DIRECTIONS, size)
    for name, ways in {"bounce": straight, "pan": straight, "pass": straight, "spin": turn, "orbit": turn}.items():
        direction = np.where(is_kind[name], ways, direction)
    direction = np.where(is_kind["move"], np.where(count == 1, any_way, straight), direction)

    # Moving objects stay in their lanes, side by side across the direction of motion.
    layout = rng.integers(_ABOVE, _BESIDE + 1, size=size)
    in_lanes = is_kind["move"] | is_kind["bounce"] | is_kind["pan"]
    sideways = np.isin(direction, [DIRECTIONS.index("left"), DIRECTIONS.index("right")])
    layout = np.where(in_lanes, np.where(sideways, _ABOVE, _BESIDE), layout)
    layout = np.where((count == 1) | is_kind["orbit"] | is_kind["pass"], 0, layout)
    behind = np.where(is_kind["pass"], rng.integers(2, size=size), 0)
    ground = rng.integers(len(GROUNDS), size=size)
    return Specs(colours, shapes, ground, texture, kind, speed, direction, layout, behind)


def draw_specs(rng: np.random.Generator, size: int, *, held_out: bool = False) -> Specs:
    """Draw `size` combinations from the training part or from the held-out part."""
    share = 0.11 if held_out else 0.86
    kind_shares = KIND_SHARES if held_out else TRAINING_SHARES
    parts: list[Specs] = []
    while sum(map(len, parts)) < size:
        drawn = _draw(rng, int((size - sum(map(len, parts))) / share) + 8, kind_shares)
        if not held_out:
            more = rng.random(len(drawn)) < _MORE_WHITE
            drawn = replace(drawn, ground=np.where(more, list(GROUNDS).index("white"), drawn.ground))
        parts.append(drawn.rows(drawn.held_out() == held_out))
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in Specs.__dataclass_fields__]
    return Specs(*joined).rows(slice(size))
