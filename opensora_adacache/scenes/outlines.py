"""Outlines of the shapes as signed distance fields, with one tile per shape in an atlas.

Every shape has its centroid at the origin and the area of a circle of radius 0.92, so that shapes of the same radius
look equally large. Distances are in units of that radius and negative inside.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from opensora_adacache.scenes.words import SHAPES

TILE = 128
TILE_REACH = 1.7
AREA = math.pi * 0.92**2


def _regular(corners: int, inner: float | None = None) -> np.ndarray:
    """Return a regular polygon with one corner at the top, or a star whose inner corners lie at radius `inner`."""
    count = corners if inner is None else 2 * corners
    angles = np.arange(count) * 2 * math.pi / count - math.pi / 2
    radii = np.ones(count)
    if inner is not None:
        radii[1::2] = inner
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 240, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], 1)


def _moon() -> np.ndarray:
    """Return a crescent that opens to the right: the unit circle minus a circle of radius 0.85 at (0.65, 0)."""
    radius, offset = 0.85, 0.65
    x = (1 - radius**2 + offset**2) / (2 * offset)
    outer, inner = math.acos(x), math.acos((x - offset) / radius)
    long_way = np.linspace(outer, 2 * math.pi - outer, 120)
    back = np.linspace(2 * math.pi - inner, inner, 120)[1:-1]
    return np.concatenate(
        [
            np.stack([np.cos(long_way), np.sin(long_way)], 1),
            np.stack([offset + radius * np.cos(back), radius * np.sin(back)], 1),
        ]
    )


_CROSS = [(1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1), (-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1)]
_ARROW = [(0, -3), (2.6, 0), (1, 0), (1, 3), (-1, 3), (-1, 0), (-2.6, 0)]
_POLYGONS = {
    "square": lambda: np.array([(1.0, 1.0), (-1, 1), (-1, -1), (1, -1)]),
    "triangle": lambda: _regular(3),
    "star": lambda: _regular(5, 0.5),
    "heart": _heart,
    "cross": lambda: np.array(_CROSS, float),
    "moon": _moon,
    "arrow": lambda: np.array(_ARROW, float),
}
RING_WIDTH = 0.5


def polygon(shape: str) -> np.ndarray:
    """Return the corners [P, 2] of a shape with centroid 0 and area `AREA`."""
    points = _POLYGONS[shape]()
    following = np.roll(points, -1, 0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    centroid = ((points + following) * cross[:, None]).sum(0) / (3 * cross.sum())
    return (points - centroid) * math.sqrt(AREA / abs(cross.sum() / 2))


def _polygon_distance(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, 0), strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - along * ex, y - ay - along * ey))
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * ex)
    return np.where(inside, -nearest, nearest)


def distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance of points to the outline of a shape of radius 1.

    >>> float(distance("circle", np.array(0.0), np.array(0.0)).round(6))
    -0.92
    """
    if shape == "circle":
        return np.hypot(x, y) - math.sqrt(AREA / math.pi)
    if shape == "ring":
        # Area of a ring of middle radius m and width w: 2 π m w.
        return np.abs(np.hypot(x, y) - AREA / (2 * math.pi * RING_WIDTH)) - RING_WIDTH / 2
    return _polygon_distance(x, y, polygon(shape))


@cache
def atlas() -> np.ndarray:
    """Return the fields of all shapes, float32 [shapes, TILE, TILE]; rows are y, from -TILE_REACH to TILE_REACH."""
    axis = ((np.arange(TILE) + 0.5) / TILE * 2 - 1) * TILE_REACH
    x, y = np.meshgrid(axis, axis)
    return np.stack([distance(shape, x, y) for shape in SHAPES]).astype(np.float32)


@cache
def reach() -> np.ndarray:
    """Return the largest distance of each outline from its centroid, [shapes], for radius 1."""
    round_shapes = {
        "circle": math.sqrt(AREA / math.pi),
        "ring": AREA / (2 * math.pi * RING_WIDTH) + RING_WIDTH / 2,
    }
    return np.array(
        [round_shapes[s] if s in round_shapes else float(np.hypot(*polygon(s).T).max()) for s in SHAPES], np.float32
    )
