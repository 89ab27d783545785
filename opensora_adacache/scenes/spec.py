"""What a caption says about a clip, for a single clip or for many as rows of integers."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from opensora_adacache.scenes.words import (
    COLOURS,
    DIRECTIONS,
    GROUNDS,
    KINDS,
    LAYOUTS,
    MAX_OBJECTS,
    SHAPES,
    SPEEDS,
    TEXTURES,
)

HELD_OUT_ONE_IN = 8


@dataclass(frozen=True)
class Thing:
    """One object of a scene."""

    colour: str
    shape: str


@dataclass(frozen=True)
class Spec:
    """What a caption says about a clip.

    Attributes:
        things: one to three objects of different colours, from top to bottom or from left to right according to
            `layout`; for the kinds ``orbit`` and ``pass``, the moving object and then the one that stays.
        ground: a key of ``GROUNDS``.
        texture: one of ``TEXTURES``.
        kind: one of ``KINDS``: how the objects move.
        speed: one of ``SPEEDS``; None if nothing moves.
        direction: one of ``DIRECTIONS``, for ``bounce`` the first one; None if the kind has no direction.
        layout: one of ``LAYOUTS``.
        behind: for ``pass``, whether the moving object passes behind the one that stays.
    """

    things: tuple[Thing, ...]
    ground: str
    texture: str
    kind: str
    speed: str | None
    direction: str | None
    layout: str
    behind: bool = False


@dataclass(frozen=True)
class Specs:
    """Many specs: every field is an array of N rows of indices into the word lists, with -1 for None.

    Attributes:
        colours: [N, MAX_OBJECTS].
        shapes: [N, MAX_OBJECTS].
    """

    colours: np.ndarray
    shapes: np.ndarray
    ground: np.ndarray
    texture: np.ndarray
    kind: np.ndarray
    speed: np.ndarray
    direction: np.ndarray
    layout: np.ndarray
    behind: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def count(self) -> np.ndarray:
        """The number of objects in each clip [N]."""
        return (self.colours >= 0).sum(1)

    def rows(self, index: np.ndarray | slice) -> Specs:
        """Return some of the rows."""
        return Specs(*(getattr(self, field.name)[index] for field in fields(self)))

    def __getitem__(self, row: int) -> Spec:
        colours, shapes = list(COLOURS), SHAPES
        things = tuple(
            Thing(colours[c], shapes[s]) for c, s in zip(self.colours[row], self.shapes[row], strict=True) if c >= 0
        )
        speed, direction = int(self.speed[row]), int(self.direction[row])
        return Spec(
            things,
            list(GROUNDS)[self.ground[row]],
            TEXTURES[self.texture[row]],
            KINDS[self.kind[row]],
            SPEEDS[speed] if speed >= 0 else None,
            DIRECTIONS[direction] if direction >= 0 else None,
            LAYOUTS[self.layout[row]],
            bool(self.behind[row]),
        )

    @classmethod
    def of(cls, specs: list[Spec]) -> Specs:
        """Return specs as rows."""
        colours = np.full((len(specs), MAX_OBJECTS), -1)
        shapes = np.full((len(specs), MAX_OBJECTS), -1)
        for row, spec in enumerate(specs):
            for slot, thing in enumerate(spec.things):
                colours[row, slot] = list(COLOURS).index(thing.colour)
                shapes[row, slot] = SHAPES.index(thing.shape)
        return cls(
            colours,
            shapes,
            np.array([list(GROUNDS).index(spec.ground) for spec in specs]),
            np.array([TEXTURES.index(spec.texture) for spec in specs]),
            np.array([KINDS.index(spec.kind) for spec in specs]),
            np.array([-1 if spec.speed is None else SPEEDS.index(spec.speed) for spec in specs]),
            np.array([-1 if spec.direction is None else DIRECTIONS.index(spec.direction) for spec in specs]),
            np.array([LAYOUTS.index(spec.layout) for spec in specs]),
            np.array([int(spec.behind) for spec in specs]),
        )

    def held_out(self) -> np.ndarray:
        """Return which combinations of attributes are excluded from training, a fixed eighth: bool [N]."""
        columns = [*self.colours.T, *self.shapes.T]
        columns += [self.ground, self.texture, self.kind, self.speed, self.direction, self.layout, self.behind]
        key = np.zeros(len(self), np.uint64)
        with np.errstate(over="ignore"):
            for column in columns:
                key = key * np.uint64(31) + (column + 1).astype(np.uint64)
            # The mixing steps of splitmix64, so that similar rows get unrelated hashes.
            key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (key ^ (key >> np.uint64(31))) % np.uint64(HELD_OUT_ONE_IN) == 0
