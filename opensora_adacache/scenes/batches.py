"""Draws batches of clips and single frames for the VAE, whole or cropped to a window around an object."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.place import Scenes, place
from opensora_adacache.scenes.render import Renderer, to_device
from opensora_adacache.scenes.words import NUM_FRAMES

# Windows are a multiple of this, so that every level of the VAE halves them exactly.
_WHOLE = 8


def draw_clips(
    rng: np.random.Generator, count: int, render: Renderer, crop: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return pixels [B, F, 3, H, W] and coverage [B, F, 1, H, W] of clips from the training part.

    Args:
        rng: generates everything.
        count: number of clips.
        render: renders them.
        crop: height and width of a window around an object, as a fraction of the frame; it stays in place over the
            clip. None for whole frames.
    """
    specs = draw_specs(rng, count)
    scenes = place(specs, rng)
    pixels, covered = render(scenes)
    if crop is None:
        return pixels, covered
    moment = rng.integers(NUM_FRAMES, size=count)
    centre = _centre(scenes, rng.integers(specs.count))[np.arange(count), moment]
    return _cut(rng, pixels, covered, centre, crop, render)


def draw_frames(
    rng: np.random.Generator, count: int, frames: int, render: Renderer, crop: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return pixels [B, 3, H, W] and coverage [B, 1, H, W] of `frames` random frames of each of `count` clips.

    The other arguments are as in `draw_clips`; every frame has a window of its own.
    """
    specs = draw_specs(rng, count)
    scenes = place(specs, rng).frames(rng.integers(NUM_FRAMES, size=(count, frames)))
    pixels, covered = render(scenes)
    if crop is not None:
        centre = _centre(scenes, rng.integers(specs.count)).reshape(-1, 2)
        pixels, covered = pixels.flatten(0, 1)[:, None], covered.flatten(0, 1)[:, None]
        pixels, covered = _cut(rng, pixels, covered, centre, crop, render)
    return pixels.flatten(0, 1), covered.flatten(0, 1)


def _centre(scenes: Scenes, slot: np.ndarray) -> np.ndarray:
    """Return where one object of each scene is, y and x [N, F, 2]."""
    rows = np.arange(len(slot))
    return np.stack([scenes.y[rows, slot], scenes.x[rows, slot]], -1)


def _cut(
    rng: np.random.Generator, pixels: Tensor, covered: Tensor, centre: np.ndarray, crop: float, render: Renderer
) -> tuple[Tensor, Tensor]:
    """Return windows of pixels and coverage [N, F, C, H, W] that are off centre [N, 2] by up to a fifth."""
    width = int(crop * render.size) // _WHOLE * _WHOLE
    corner = centre * render.scale - width / 2 + rng.uniform(-0.2, 0.2, centre.shape) * width
    first = to_device(np.clip(corner, 0, render.size - width).astype(int), render.device)
    span = torch.arange(width, device=render.device)
    row, column = (first[:, axis, None] + span for axis in (0, 1))

    def window(part: Tensor) -> Tensor:
        rows = part.gather(3, row[:, None, None, :, None].expand(*part.shape[:3], -1, part.shape[4]))
        return rows.gather(4, column[:, None, None, None].expand(*part.shape[:3], width, -1))

    return window(pixels), window(covered)
