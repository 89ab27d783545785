"""Describes a clip of the generated data set: what its caption says and where its objects are.

Lengths are in pixels of a 64 pixel wide frame, so a 128x128 clip shows the same scene at double size.
"""

from __future__ import annotations

from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 35, 35),
    "yellow": (240, 220, 30),
    "green": (30, 180, 50),
    "cyan": (30, 210, 225),
    "blue": (35, 60, 230),
    "purple": (190, 40, 210),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (18, 18, 20),
    "gray": (125, 125, 125),
    "white": (235, 235, 235),
    "brown": (98, 76, 58),
}
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
# Pixels per frame. A clip draws its speed within 5 % of these values, so that the classes never overlap.
SPEEDS: dict[str, float] = {"still": 0.0, "slow": 0.75, "fast": 2.0}
ARRANGEMENTS = ("above", "beside")
NUM_FRAMES = 17
BASE_SIZE = 64


@dataclass(frozen=True)
class ObjectSpec:
    """What a caption says about one object."""

    shape: str
    colour: str


@dataclass(frozen=True)
class SceneSpec:
    """What a caption says about a clip.

    Attributes:
        objects: one or two; the first of two is the upper (``above``) or the left one (``beside``).
        background: a key of ``BACKGROUNDS``.
        speed: a key of ``SPEEDS``, shared by all objects.
        direction: a key of ``DIRECTIONS``, or ``None`` if the speed is ``still``.
        arrangement: one of ``ARRANGEMENTS`` for two objects, otherwise ``None``. Two moving objects each stay in their
            lanes, so it follows from the direction.
    """

    objects: tuple[ObjectSpec, ...]
    background: str
    speed: str
    direction: str | None = None
    arrangement: str | None = None

    def key(self) -> str:
        """Return a name for the combination of attributes, the same for every paraphrase and placement."""
        things = "+".join(f"{o.colour} {o.shape}" for o in self.objects)
        return f"{things}|{self.arrangement}|{self.background}|{self.speed}|{self.direction}"


@dataclass(frozen=True)
class SceneObject:
    """One object with its position: centre in the first frame, velocity per frame, radius."""

    spec: ObjectSpec
    x: float
    y: float
    dx: float
    dy: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """A clip that is ready to be drawn."""

    spec: SceneSpec
    objects: tuple[SceneObject, ...]
