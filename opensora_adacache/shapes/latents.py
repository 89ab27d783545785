"""Encodes the training clips once: spatial latents for the temporal stage, full latents for the transformer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opensora_adacache.models.vae import SPATIAL_SCALE
from opensora_adacache.shapes.dataset import PAIR_SHARE, is_held_out, make_scene, reverse
from opensora_adacache.shapes.render import render_frames
from opensora_adacache.shapes.scene import BASE_SIZE, NUM_FRAMES, SceneSpec

_SHARD = 256


@dataclass(frozen=True)
class SpatialCache:
    """Spatial latents of clips.

    Attributes:
        latents: float16 [clips, 4, F, h, w], multiplied by ``SPATIAL_SCALE``.
        specs: one scene description per clip.
    """

    latents: Tensor
    specs: list[SceneSpec]

    def with_reversed(self) -> SpatialCache:
        """Add every moving clip played backwards, with its direction reversed, unless that combination is held out.

        Spatial latents of single frames do not depend on time, so this doubles the moving clips at no cost.
        """
        turned = [
            (number, reverse(spec))
            for number, spec in enumerate(self.specs)
            if spec.direction is not None and not is_held_out(reverse(spec))
        ]
        numbers = torch.tensor([number for number, _ in turned])
        return SpatialCache(
            torch.cat([self.latents, self.latents[numbers].flip(2)]),
            self.specs + [spec for _, spec in turned],
        )


@torch.no_grad()
def encode_spatial(
    vae: Any, folder: Path, seed: int, num_clips: int, size: int = BASE_SIZE, pair_share: float = PAIR_SHARE
) -> SpatialCache:
    """Encode clips ``0 .. num_clips - 1`` of the data set; finished shards in the folder are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    latents, specs = [], []
    for first in range(0, num_clips, _SHARD):
        path = folder / f"spatial_{size}_{first:06d}.pt"
        scenes = [
            make_scene(seed, index, pair_share=pair_share)[0] for index in range(first, min(first + _SHARD, num_clips))
        ]
        specs += [scene.spec for scene in scenes]
        if not path.exists():
            rows = []
            for scene in scenes:
                # A still clip repeats one frame, so it is encoded only once.
                frames = range(NUM_FRAMES) if scene.spec.direction else range(1)
                pixels, _ = render_frames(scene, frames, size)
                encoded = vae.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())
                mean = encoded.latent_dist.mode().mul(SPATIAL_SCALE).transpose(0, 1)
                rows.append(mean.expand(-1, NUM_FRAMES, -1, -1).half())
            torch.save(torch.stack(rows), path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)
            print(f"encoded {first + len(scenes)} clips", flush=True)
        latents.append(torch.load(path, weights_only=True))
    return SpatialCache(torch.cat(latents), specs)
