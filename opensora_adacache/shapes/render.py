"""Draws scenes: flat shapes with anti-aliased edges on a flat background. Uses numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from opensora_adacache.shapes.scene import BACKGROUNDS, BASE_SIZE, COLOURS, NUM_FRAMES, Scene

# Sizes relative to the radius, chosen so that the three shapes have similar areas.
SQUARE_HALF_SIDE = 0.9
TRIANGLE_RADIUS = 1.25


def half_extent(shape: str, radius: float) -> tuple[float, float]:
    """Return half the width and half the height of a shape with this radius."""
    if shape == "circle":
        return radius, radius
    if shape == "square":
        return SQUARE_HALF_SIDE * radius, SQUARE_HALF_SIDE * radius
    return TRIANGLE_RADIUS * radius * math.sqrt(3) / 2, TRIANGLE_RADIUS * radius * 0.75


def coverage(shape: str, x: float, y: float, radius: float, size: tuple[int, int]) -> np.ndarray:
    """Return how much of every pixel a shape covers, [H, W] in 0..1.

    Args:
        shape: circle, square or triangle (equilateral, pointing up).
        x, y: centre of the bounding box (column, row), in pixels from the top left corner.
        radius: in pixels.
        size: (H, W).
    """
    columns = np.arange(size[1], dtype=np.float32) + 0.5 - x
    rows = (np.arange(size[0], dtype=np.float32) + 0.5 - y)[:, None]
    if shape == "circle":
        distance = np.hypot(columns, rows) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(columns), np.abs(rows)) - SQUARE_HALF_SIDE * radius
    else:
        # The centroid lies below the centre of the box by a quarter of the radius.
        outer = TRIANGLE_RADIUS * radius
        below = rows - 0.25 * outer
        side = np.abs(columns) * (math.sqrt(3) / 2) - below * 0.5
        distance = np.maximum(side, below) - 0.5 * outer
    return np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32)


def render_frames(
    scene: Scene, frames: Sequence[int] = range(NUM_FRAMES), size: int = BASE_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the frames of a scene.

    Returns:
        Pixels [F, size, size, 3] in -1..1 and object coverage [F, size, size] in 0..1, both float32.
    """
    scale = size / BASE_SIZE
    ground = np.asarray(BACKGROUNDS[scene.spec.background], np.float32) / 127.5 - 1
    pixels = np.empty((len(frames), size, size, 3), np.float32)
    covered = np.zeros((len(frames), size, size), np.float32)
    pixels[:] = ground
    for index, frame in enumerate(frames):
        for thing in scene.objects:
            colour = np.asarray(COLOURS[thing.spec.colour], np.float32) / 127.5 - 1
            x, y = (thing.x + frame * thing.dx) * scale, (thing.y + frame * thing.dy) * scale
            alpha = coverage(thing.spec.shape, x, y, thing.radius * scale, (size, size))
            pixels[index] += alpha[..., None] * (colour - pixels[index])
            covered[index] = np.maximum(covered[index], alpha)
    return pixels, covered
