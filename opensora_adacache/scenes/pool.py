"""A pool of encoded clips on the device that the transformer learns from, renewed during training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from opensora_adacache.scenes.captions import write_caption
from opensora_adacache.scenes.chunks import Chunks
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.keyframes import kept_frames
from opensora_adacache.scenes.patches import NUM_MEASURES, patch_targets
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer, to_device
from opensora_adacache.scenes.structure import TRANSFORMER, VAE, spatial_factor
from opensora_adacache.scenes.text import MAX_TOKENS, Tokens, tag_targets
from opensora_adacache.scenes.words import MAX_OBJECTS, NUM_FRAMES

CHUNK = 32
WORDINGS = 2


@dataclass(frozen=True)
class Batch:
    """The input of one training step of the transformer.

    Attributes:
        latents: [B, C, T, h, w], normalized.
        tokens: [B, L] int64.
        things: [B, K, 3], and `clip` [B, 5]: what the captions say (`text.tag_targets`).
        shape: [B, T, S], `colour` [B, T, S] and `measures` [B, T, S, 8]: what patches show (`patches.PatchTargets`).
    """

    latents: Tensor
    tokens: Tensor
    things: Tensor
    clip: Tensor
    shape: Tensor
    colour: Tensor
    measures: Tensor

    def single_frames(self) -> Batch:
        """Return one random kept frame of each clip, T = 1, with what is said of the whole clip."""
        rows = torch.arange(len(self.latents), device=self.latents.device)
        frame = torch.randint(self.latents.shape[2], rows.shape, device=rows.device)
        shown = {name: getattr(self, name)[rows, frame][:, None] for name in ("shape", "colour", "measures")}
        return replace(self, latents=self.latents[rows, :, frame][:, :, None], **shown)


class Pool(Chunks):
    """The encoded clips that the transformer learns from.

    Args:
        encode: maps the kept frames of clips [B, T, 3, H, W] to normalized latents.
        render: renders the clips.
        size: number of clips, a multiple of ``CHUNK``.
        seed: seed of the clips.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], render: Renderer, size: int, seed: int) -> None:
        super().__init__(size, CHUNK)
        self.encode, self.render, self.seed = encode, render, seed
        self.kept = kept_frames(NUM_FRAMES, VAE.temporal.time_factor)
        self.filled = 0
        self.words = Tokens()
        self.latents: Tensor | None = None
        self.side = render.size // (spatial_factor() * TRANSFORMER.patch_size[1])
        shape, device = (size, len(self.kept), self.side**2), render.device
        self.tokens = torch.zeros(size, WORDINGS, MAX_TOKENS, dtype=torch.int64, device=device)
        self.told = {
            "things": torch.zeros(size, MAX_OBJECTS, 3, dtype=torch.int64, device=device),
            "clip": torch.zeros(size, 5, dtype=torch.int64, device=device),
            "shape": torch.zeros(shape, dtype=torch.int64, device=device),
            "colour": torch.zeros(shape, dtype=torch.int64, device=device),
            "measures": torch.zeros(*shape, NUM_MEASURES, device=device),
        }

    def put(self, number: int) -> None:
        rng = np.random.default_rng([self.seed, 2, number])
        specs = draw_specs(rng, CHUNK)
        scenes = place(specs, rng).frames(np.tile(self.kept, (CHUNK, 1)))
        variants = rng.integers(2**31, size=(CHUNK, WORDINGS))
        captions = [write_caption(specs[row], int(variant)) for row in range(CHUNK) for variant in variants[row]]
        pixels, _ = self.render(scenes)
        latents = self.encode(pixels)
        if self.latents is None:
            self.latents = latents.new_zeros(self.size, *latents.shape[1:])
        device = self.latents.device
        place_at = self.rows(number)
        self.latents[place_at] = latents
        self.tokens[place_at] = to_device(self.words(captions), device).unflatten(0, (CHUNK, WORDINGS))
        things, clip = tag_targets(specs)
        patches = patch_targets(scenes, specs.colours, self.side)
        for name, values in ({"things": things, "clip": clip} | vars(patches)).items():
            self.told[name][place_at] = to_device(values, device)
        self.filled = max(self.filled, place_at.stop)

    def draw(self, count: int) -> Batch:
        """Return random clips, drawn with torch's global generator of the device."""
        assert self.latents is not None, "fill the pool first"
        device = self.latents.device
        rows = torch.randint(self.filled, (count,), device=device)
        wording = torch.randint(WORDINGS, (count,), device=device)
        told = {name: values[rows] for name, values in self.told.items()}
        return Batch(self.latents[rows].float(), self.tokens[rows, wording], **told)
