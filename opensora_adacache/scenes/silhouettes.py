"""Finds the objects of a clip by colour: soft silhouettes, positions, sizes, shapes and angles. Uses numpy only.

Objects are colourful and backgrounds are not, whatever their texture, and no two objects of a clip share a colour. Each
pixel is therefore assigned to the palette colour with the nearest hue, weighted by how colourful the pixel is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from opensora_adacache.scenes.outlines import AREA, TILE, TILE_REACH, atlas
from opensora_adacache.scenes.words import BASE_SIZE, COLOURS, SHAPES, SYMMETRY

SMALLEST_AREA = 45.0  # pixels of a 96 pixel frame; the smallest drawn object covers about 100
# Another object is near if it covers this many pixels of the rim, of a 96 pixel frame; fewer are specks of colour.
_CONTACT = 3
_PALETTE = np.array(list(COLOURS.values()), float)


def chroma(rgb: np.ndarray) -> np.ndarray:
    """Return colours [..., 3] minus their lightness: [..., 3] with mean 0."""
    return rgb - rgb.mean(-1, keepdims=True)


@dataclass(frozen=True)
class Silhouette:
    """One object in one frame.

    Attributes:
        soft: coverage in 0..1, [H, W].
        x, y: centre in pixels of a 96 pixel frame.
        area: area in pixels of a 96 pixel frame.
        pieces: number of connected components that are large enough to be an object.
        free: whether neither another object nor the border of the frame is near, so that nothing can hide a part.
    """

    soft: np.ndarray
    x: float
    y: float
    area: float
    pieces: int
    free: bool


def _label(mask: np.ndarray) -> np.ndarray:
    """Number the 4-connected components of a mask [H, W]; 0 is outside."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        around = np.maximum.reduce([labels, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        around = np.where(mask, around, 0)
        if np.array_equal(around, labels):
            return labels
        labels = around


def grow(mask: np.ndarray) -> np.ndarray:
    """Return a mask extended by the neighbours of its pixels."""
    padded = np.pad(mask, 1)
    return mask | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def hues(pixels: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for pixels [..., 3] in 0..255, the index of the nearest palette hue and the colourfulness.

    The colourfulness is 1 for a pixel with the chroma of the palette colour, and 0 for one with that of the ground [3].
    """
    base = chroma(ground)
    wanted = chroma(_PALETTE) - base
    length = np.linalg.norm(wanted, axis=1)
    along = (chroma(pixels) - base) @ (wanted / length[:, None]).T
    nearest = along.argmax(-1)
    return nearest, np.take_along_axis(along, nearest[..., None], -1)[..., 0] / length[nearest]


def ground_colour(frame: np.ndarray) -> np.ndarray:
    """Return the mean colour [3] of the low-chroma pixels of a frame [H, W, 3]."""
    plain = np.linalg.norm(chroma(frame), axis=-1) < 60
    return frame[plain].mean(0) if plain.any() else frame.reshape(-1, 3).mean(0)


def silhouettes(frame: np.ndarray) -> dict[str, Silhouette]:
    """Return the objects of a frame [H, W, 3] in 0..255 by colour, each as its largest connected component."""
    scale = frame.shape[1] / BASE_SIZE
    nearest, amount = hues(frame, ground_colour(frame))
    solid = amount > 0.5
    pieces = {name: _pieces(solid & (nearest == index), SMALLEST_AREA * scale**2) for index, name in enumerate(COLOURS)}
    # Specks of another colour are no object, and hide nothing.
    objects = np.logical_or.reduce([piece for own in pieces.values() for piece in own])
    found = {}
    for index, (name, own) in enumerate(pieces.items()):
        if not own:
            continue
        rim = grow(grow(own[0]))
        # An edge pixel that another object covers does not belong to this one.
        others = solid & (nearest != index)
        soft = np.where(rim & ~others, np.clip(amount, 0, 1), 0.0)
        touched = (rim & others & objects).sum() >= _CONTACT * scale
        at_border = np.concatenate([rim[0], rim[-1], rim[:, 0], rim[:, -1]]).any()
        area = soft.sum()
        x = (soft.sum(0) * (np.arange(soft.shape[1]) + 0.5)).sum() / area
        y = (soft.sum(1) * (np.arange(soft.shape[0]) + 0.5)).sum() / area
        found[name] = Silhouette(soft, x / scale, y / scale, area / scale**2, len(own), not (touched or at_border))
    return found


def _pieces(mask: np.ndarray, least: float) -> list[np.ndarray]:
    """Return the connected components of a mask [H, W] with at least so many pixels, largest first."""
    if mask.sum() < least:
        return []
    labels = _label(mask)
    numbers, sizes = np.unique(labels[mask], return_counts=True)
    return [labels == numbers[place] for place in np.argsort(-sizes, kind="stable") if sizes[place] >= least]


@cache
def _moments() -> dict[str, complex]:
    """Return the angular moment of every shape at angle 0, with the order of its symmetry."""
    axis = ((np.arange(TILE) + 0.5) / TILE * 2 - 1) * TILE_REACH
    inside = np.clip(0.5 - atlas() * TILE / (2 * TILE_REACH), 0, 1)
    return {
        shape: _moment(inside[number], axis[None], axis[:, None], SYMMETRY[shape])
        for number, shape in enumerate(SHAPES)
        if SYMMETRY[shape]
    }


def _moment(soft: np.ndarray, x: np.ndarray, y: np.ndarray, order: int) -> complex:
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    return complex((soft * radius**3 * np.exp(1j * order * angle)).sum())


def draw(shape: str, x: float, y: float, radius: float, angle: float, size: tuple[int, int]) -> np.ndarray:
    """Return the coverage [H, W] by a shape; lengths in pixels, angle in radians, clockwise."""
    columns, rows = np.arange(size[1]) + 0.5 - x, (np.arange(size[0]) + 0.5 - y)[:, None]
    cos, sin = math.cos(angle), math.sin(angle)
    reach = max(radius, 1e-3) * TILE_REACH

    def texel(values: np.ndarray) -> np.ndarray:
        return np.clip((values / reach + 1) / 2 * TILE - 0.5, 0, TILE - 1.001)

    u, v = texel(cos * columns + sin * rows), texel(cos * rows - sin * columns)
    left, top = u.astype(int), v.astype(int)
    tile, fx, fy = atlas()[SHAPES.index(shape)], u - left, v - top
    upper = tile[top, left] * (1 - fx) + tile[top, left + 1] * fx
    lower = tile[top + 1, left] * (1 - fx) + tile[top + 1, left + 1] * fx
    return np.clip(0.5 - (upper * (1 - fy) + lower * fy) * radius, 0, 1)


def turn(shape: str, silhouette: Silhouette) -> float:
    """Return the rotation angle of a silhouette in radians, assuming that shape; 0 for round shapes."""
    angles = _angles(shape, silhouette)
    return angles[0] if len(angles) == 1 else max(angles, key=lambda angle: _overlap(shape, silhouette, angle))


def overlap(shape: str, silhouette: Silhouette) -> float:
    """Return the intersection over union of a silhouette and the shape drawn with its position, area and angle."""
    return max(_overlap(shape, silhouette, angle) for angle in _angles(shape, silhouette))


def _angles(shape: str, silhouette: Silhouette) -> tuple[float, ...]:
    """Return the angles in radians that a silhouette may have; the drawn shape tells which of them."""
    order = SYMMETRY[shape]
    if not order:
        return (0.0,)
    scale = silhouette.soft.shape[1] / BASE_SIZE
    columns = np.arange(silhouette.soft.shape[1]) + 0.5 - silhouette.x * scale
    rows = (np.arange(silhouette.soft.shape[0]) + 0.5 - silhouette.y * scale)[:, None]
    moment = _moment(silhouette.soft, columns, rows, order)
    turned = float(np.angle(moment / _moments()[shape])) / order
    # A shape that looks the same after a full turn only is nearly balanced around its centre, so that a dent can turn
    # its moment by 45 degrees. As drawn, such shapes are upright.
    return (turned,) if order > 1 else (turned, 0.0)


def _overlap(shape: str, silhouette: Silhouette, angle: float) -> float:
    soft = silhouette.soft
    scale = soft.shape[1] / BASE_SIZE
    radius = math.sqrt(silhouette.area / AREA) * scale
    drawn = draw(shape, silhouette.x * scale, silhouette.y * scale, radius, angle, soft.shape[:2])
    return float(np.minimum(soft, drawn).sum() / np.maximum(soft, drawn).sum())


def roundness_error(silhouette: Silhouette, sectors: int = 16) -> float:
    """Return the relative deviation of the radius of a filled shape over directions; about 0 for a circle."""
    soft = silhouette.soft
    scale = soft.shape[1] / BASE_SIZE
    # Sample rays from the centre finely with linear interpolation: the covered length is the radius.
    angles = np.arange(sectors) * 2 * np.pi / sectors
    reach = np.arange(0, 2.2 * math.sqrt(silhouette.area / math.pi) * scale, 0.25)
    u = silhouette.x * scale - 0.5 + np.cos(angles)[:, None] * reach
    v = silhouette.y * scale - 0.5 + np.sin(angles)[:, None] * reach
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    padded = np.pad(soft, 1)
    fx, fy = u - left, v - top
    left, top = (np.clip(part + 1, 0, limit) for part, limit in ((left, soft.shape[1]), (top, soft.shape[0])))
    upper = padded[top, left] * (1 - fx) + padded[top, left + 1] * fx
    lower = padded[top + 1, left] * (1 - fx) + padded[top + 1, left + 1] * fx
    radii = (upper * (1 - fy) + lower * fy).sum(1) * 0.25
    return float(radii.std() / radii.mean())
