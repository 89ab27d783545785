"""Draws batches of clips and of single frames for the VAE."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer, to_device
from opensora_adacache.scenes.windows import centres, corners, cut
from opensora_adacache.scenes.words import NUM_FRAMES

# Windows are a multiple of this, so that every level of the VAE halves them exactly.
_WHOLE = 8


def draw_clips(rng: np.random.Generator, count: int, render: Renderer) -> tuple[Tensor, Tensor]:
    """Return pixels [B, F, 3, H, W] and coverage [B, F, 1, H, W] of clips from the training part."""
    return render(place(draw_specs(rng, count), rng))


def draw_frames(
    rng: np.random.Generator, count: int, frames: int, render: Renderer, crop: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return pixels [B, 3, H, W] and coverage [B, 1, H, W] of single frames of clips from the training part.

    Args:
        rng: generates everything.
        count: number of clips.
        frames: number of random frames of each clip.
        render: renders them.
        crop: height and width of a window around an object, as a fraction of the frame; None for whole frames.
    """
    specs = draw_specs(rng, count)
    scenes = place(specs, rng).frames(rng.integers(NUM_FRAMES, size=(count, frames)))
    pixels, covered = render(scenes)
    pixels, covered = pixels.flatten(0, 1), covered.flatten(0, 1)
    if crop is None:
        return pixels, covered
    width = int(crop * render.size) // _WHOLE * _WHOLE
    centre = centres(scenes, rng.integers(specs.count)).reshape(-1, 2) * render.scale
    corner = to_device(corners(rng, centre, width, render.size), render.device)
    return cut(pixels[:, None], corner, width)[:, 0], cut(covered[:, None], corner, width)[:, 0]
