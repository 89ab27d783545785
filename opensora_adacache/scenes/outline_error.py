"""Measures how much the outlines of objects differ from the shapes in the prompt. Uses numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opensora_adacache.scenes.silhouettes import Silhouette, overlap, roundness_error, silhouettes
from opensora_adacache.scenes.words import SHAPES

_LEAST_SHARE = 0.85  # fraction of an object's largest area; with less visible area it is partly hidden


@dataclass(frozen=True)
class Outline:
    """How well one object keeps its shape.

    Attributes:
        colour: colour that identifies the object.
        shape: shape in the prompt.
        error: 1 minus the intersection over union with the drawn shape of the same position, area and angle, mean over
            the frames.
        roundness: relative deviation of the radius over directions, mean over the frames; None unless a circle is
            required.
        kept: fraction of the frames in which no other shape fits better.
    """

    colour: str
    shape: str
    error: float
    roundness: float | None
    kept: float


def read_outlines(clip: np.ndarray, things: dict[str, str], *, resizing: bool = False) -> list[Outline]:
    """Read the outlines of the objects that are present.

    Args:
        clip: [3, F, H, W] in -1..1.
        things: colour -> shape in the prompt.
        resizing: whether the objects grow or shrink, so that a small one is not a hidden one.
    """
    pixels = (np.clip(np.asarray(clip, np.float32), -1, 1).transpose(1, 2, 3, 0) + 1) * 127.5
    frames = [silhouettes(frame) for frame in pixels]
    outlines = []
    for colour, shape in things.items():
        seen = [frame[colour] for frame in frames if colour in frame]
        if not seen:
            continue
        full = max(one.area for one in seen)
        visible = seen if resizing else [one for one in seen if one.area > _LEAST_SHARE * full]
        # Where nothing is near, nothing is hidden at all.
        outlines.append(_compare(colour, shape, [one for one in visible if one.free] or visible))
    return outlines


def _compare(colour: str, shape: str, seen: list[Silhouette]) -> Outline:
    fits = np.array([[overlap(name, one) for name in SHAPES] for one in seen])
    asked = fits[:, SHAPES.index(shape)]
    rounded = float(np.mean([roundness_error(one) for one in seen])) if shape == "circle" else None
    return Outline(colour, shape, 1 - float(asked.mean()), rounded, float((asked >= fits.max(1)).mean()))
