"""Windows around objects: cut from pixels, or from a store of encoded clips that is renewed during training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from opensora_adacache.scenes.chunks import Chunks
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.losses import Emphasis, pixel_weights, pooled
from opensora_adacache.scenes.place import Scenes, place
from opensora_adacache.scenes.render import Renderer, to_device
from opensora_adacache.scenes.words import NUM_FRAMES

CHUNK = 16


def centres(scenes: Scenes, slot: np.ndarray) -> np.ndarray:
    """Return where one object of each scene is, y and x [N, F, 2] in pixels of scenes; `slot` [N] says which."""
    rows = np.arange(len(slot))
    return np.stack([scenes.y[rows, slot], scenes.x[rows, slot]], -1)


def corners(rng: np.random.Generator, centre: np.ndarray, width: int, size: int) -> np.ndarray:
    """Return the corners [N, 2] of windows that are off centre [N, 2] by up to a fifth and within the frame."""
    corner = centre - width / 2 + rng.uniform(-0.2, 0.2, centre.shape) * width
    return np.clip(corner, 0, size - width).astype(int)


def cut(part: Tensor, corner: Tensor, width: int) -> Tensor:
    """Return windows [N, A, B, width, width] of clips [N, A, B, H, W], by their corners [N, 2], y and x.

    >>> cut(torch.arange(16.0).view(1, 1, 1, 4, 4), torch.tensor([[1, 2]]), 2).flatten().tolist()
    [6.0, 7.0, 10.0, 11.0]
    """
    span = torch.arange(width, device=part.device)
    row, column = (corner[:, axis, None] + span for axis in (0, 1))
    rows = part.gather(3, row[:, None, None, :, None].expand(*part.shape[:3], -1, part.shape[4]))
    return rows.gather(4, column[:, None, None, None].expand(*part.shape[:3], width, -1))


class LatentWindows(Chunks):
    """Encoded clips, of which the temporal decoder sees windows around objects.

    To render and encode a clip takes longer than to decode a window of it, so every clip is used several times.

    Args:
        encode: maps clips [B, F, 3, H, W] to latents [B, C, F, h, w] of every frame.
        render: renders the clips.
        emphasis: how much more the pixels of objects count.
        size: number of clips, a multiple of ``CHUNK``.
        seed: seed of the clips.
    """

    def __init__(
        self, encode: Callable[[Tensor], Tensor], render: Renderer, emphasis: Emphasis, size: int, seed: int
    ) -> None:
        super().__init__(size, CHUNK)
        self.encode, self.render, self.emphasis, self.seed = encode, render, emphasis, seed
        self.held: tuple[Tensor, ...] | None = None
        self.centres = np.zeros((size, NUM_FRAMES, 2))

    @property
    def width(self) -> int:
        """Height and width of whole clips in latents."""
        assert self.held is not None, "fill it first"
        return self.held[0].shape[-1]

    def put(self, number: int) -> None:
        rng = np.random.default_rng([self.seed, 4, number])
        specs = draw_specs(rng, CHUNK)
        scenes = place(specs, rng)
        pixels, covered = self.render(scenes)
        latents = self.encode(pixels)
        factor = pixels.shape[-1] // latents.shape[-1]
        weights = pixel_weights(pixels.flatten(0, 1), covered.flatten(0, 1), self.emphasis)
        weights = pooled(weights.unflatten(0, pixels.shape[:2]), factor)
        if self.held is None:
            self.held = tuple(part.new_zeros(self.size, *part.shape[1:]) for part in (latents, weights))
        rows = self.rows(number)
        for held, values in zip(self.held, (latents, weights), strict=True):
            held[rows] = values
        self.centres[rows] = centres(scenes, rng.integers(specs.count)) * self.render.scale / factor

    def draw(self, rng: np.random.Generator, count: int, width: int) -> tuple[Tensor, Tensor]:
        """Return latents [N, C, F, width, width] of windows and the weights [N, 1, F, width, width] of their errors.

        Args:
            rng: generates everything.
            count: number of windows, each around an object in a random frame; it stays in place over the clip.
            width: height and width in latents.
        """
        assert self.held is not None, "fill it first"
        latents, weights = self.held
        rows = rng.integers(len(latents), size=count)
        centre = self.centres[rows, rng.integers(NUM_FRAMES, size=count)]
        corner = to_device(corners(rng, centre, width, latents.shape[-1]), latents.device)
        index = to_device(rows, latents.device)
        return cut(latents[index], corner, width), cut(weights[index], corner, width)
