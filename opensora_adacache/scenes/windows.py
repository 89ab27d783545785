"""Windows around objects: cut from pixels, or from a store of encoded clips that is renewed during training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.losses import Emphasis, pixel_weights
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer, to_device
from opensora_adacache.scenes.words import NUM_FRAMES

CHUNK = 16


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


class LatentWindows:
    """Holds encoded clips. Chunk number c replaces the oldest chunk and depends only on the seed and on c.

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
        if size < CHUNK or size % CHUNK:
            raise ValueError(f"number of clips must be a multiple of {CHUNK}, got {size}")
        self.encode, self.render, self.emphasis, self.seed = encode, render, emphasis, seed
        self.num_chunks = size // CHUNK
        self.held: tuple[Tensor, Tensor] | None = None
        self.centres = np.zeros((size, NUM_FRAMES, 2))

    @property
    def width(self) -> int:
        """Height and width of whole clips in latents."""
        assert self.held is not None, "fill it first"
        return self.held[0].shape[-1]

    def fill(self, renewed: int) -> None:
        """Encode the clips that are held after `renewed` renewals."""
        for chunk in range(renewed, renewed + self.num_chunks):
            self.put(chunk)

    def put(self, chunk: int) -> None:
        """Encode chunk number `chunk` in place of the oldest chunk."""
        rng = np.random.default_rng([self.seed, 4, chunk])
        specs = draw_specs(rng, CHUNK)
        scenes = place(specs, rng)
        pixels, covered = self.render(scenes)
        latents = self.encode(pixels)
        factor = pixels.shape[-1] // latents.shape[-1]
        weights = pixel_weights(pixels.flatten(0, 1), covered.flatten(0, 1), self.emphasis)
        weights = functional.avg_pool2d(weights, factor).unflatten(0, pixels.shape[:2]).transpose(1, 2)
        if self.held is None:
            size = self.num_chunks * CHUNK
            self.held = latents.new_zeros(size, *latents.shape[1:]), weights.new_zeros(size, *weights.shape[1:])
        first = chunk % self.num_chunks * CHUNK
        for held, values in zip(self.held, (latents, weights), strict=True):
            held[first : first + CHUNK] = values
        rows, slot = np.arange(CHUNK), rng.integers(specs.count)
        places = np.stack([scenes.y[rows, slot], scenes.x[rows, slot]], -1)
        self.centres[first : first + CHUNK] = places * self.render.scale / factor

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
