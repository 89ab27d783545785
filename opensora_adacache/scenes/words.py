"""Names for what a scene can show, and the numbers behind them.

Lengths are in pixels of a 96 pixel wide frame and rates are per frame; a larger clip shows the same scene enlarged.
"""

from __future__ import annotations

import math

BASE_SIZE = 96
NUM_FRAMES = 17
FPS = 8
MAX_OBJECTS = 3

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon", "arrow")
# Rotational symmetry: number of turns that leave a shape unchanged; 0 if every turn does.
SYMMETRY = {
    "circle": 0,
    "ring": 0,
    "square": 4,
    "cross": 4,
    "triangle": 3,
    "star": 5,
    "heart": 1,
    "moon": 1,
    "arrow": 1,
}
# Shapes that spin: those that look the same after a part of a turn. The others would ask a small model for many more
# pictures of a turned shape.
SPINNING = tuple(name for name in SHAPES if SYMMETRY[name] > 1)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 32, 36),
    "orange": (248, 132, 20),
    "yellow": (246, 226, 36),
    "green": (36, 176, 56),
    "cyan": (30, 208, 224),
    "blue": (36, 64, 232),
    "purple": (140, 44, 196),
    "pink": (255, 104, 184),
}
# Two tones each: the background colour, and the tone that gradients and patterns mix into it. None has much chroma.
GROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "black": ((16, 16, 18), (60, 60, 62)),
    "gray": ((112, 112, 112), (156, 156, 156)),
    "white": ((240, 240, 240), (196, 196, 196)),
    "brown": ((92, 70, 52), (134, 106, 82)),
}
TEXTURES = ("plain", "graded", "striped", "checkered", "dotted")
PATTERNS = ("striped", "checkered", "dotted")

KINDS = ("still", "move", "bounce", "spin", "grow", "shrink", "orbit", "pan", "pass")
SPEEDS = ("very slow", "slow", "steady", "fast", "very fast")
_PACE = (0.6, 1.0, 1.6, 2.5, 4.0)  # pixels
# The VAE makes one latent frame of four frames. In that time no shape turns by half of its symmetry (a star looks the
# same after 72 degrees), no pattern moves by half of its period, and no object on an orbit moves much further than one
# that moves straight on.
_PAN = (0.5, 0.75, 1.1, 1.6, 2.3)
_TURN = tuple(math.radians(degrees) for degrees in (2.0, 2.9, 4.2, 6.0, 8.5))
_GROWTH = (0.12, 0.2, 0.32, 0.5, 0.8)  # pixels of radius
_ORBIT = tuple(math.radians(degrees) for degrees in (4.0, 5.3, 7.1, 9.4, 12.5))
# Rate per frame of each speed.
RATES: dict[str, tuple[float, ...]] = {
    "still": (0.0,) * 5,
    "move": _PACE,
    "bounce": _PACE,
    "spin": _TURN,
    "grow": _GROWTH,
    "shrink": _GROWTH,
    "orbit": _ORBIT,
    "pan": _PAN,
    "pass": _PACE,
}

_DIAGONAL = math.sqrt(0.5)
WAYS: dict[str, tuple[float, float]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up left": (-_DIAGONAL, -_DIAGONAL),
    "up right": (_DIAGONAL, -_DIAGONAL),
    "down left": (-_DIAGONAL, _DIAGONAL),
    "down right": (_DIAGONAL, _DIAGONAL),
}
STRAIGHT = ("left", "right", "up", "down")
TURNS: dict[str, int] = {"clockwise": 1, "counterclockwise": -1}
DIRECTIONS = (*WAYS, *TURNS)
# What the checker asks of a clip.
ATTRIBUTES = (
    "colour",
    "shape",
    "number",
    "kind",
    "direction",
    "speed",
    "ground",
    "texture",
    "arrangement",
    "occlusion",
)
# "above": slots from top to bottom; "beside": from left to right.
LAYOUTS = ("alone", "above", "beside")
