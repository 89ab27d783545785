"""Train the spatial VAE of the bundled model: crops around the objects first, whole frames last.

On whole frames from the start the flat background outweighs the objects so much that they stay
colourless for a long time; crops with weighted object pixels learn colours within a minute. The last
steps see whole frames because GroupNorm statistics of a crop differ from those of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from opensora_adacache.models.vae import OpenSoraVAEConfig, SpatialVAE
from opensora_adacache.shapes.dataset import make_scene
from opensora_adacache.shapes.progress import Progress, descend
from opensora_adacache.shapes.render import render_frames
from opensora_adacache.shapes.scene import BASE_SIZE, NUM_FRAMES


@dataclass(frozen=True)
class SpatialRecipe:
    """Steps and weights of the spatial stage."""

    crop_steps: int = 1400
    frame_steps: int = 1900
    learning_rate: float = 2.5e-3
    crop: int = 32
    batch: int = 32
    frame_batch: int = 12
    object_weight: float = 4.0
    kl_weight: float = 1e-6
    warm_up: int = 50
    seed: int = 0


def spatial_structure() -> OpenSoraVAEConfig:
    """Return the structure of the small spatial autoencoder: 8 times down, 4 latent channels."""
    return OpenSoraVAEConfig(block_out_channels=(16, 32, 48, 64), layers_per_block=1, norm_num_groups=8)


def build_spatial() -> Any:
    """Return the small spatial autoencoder, untrained (a diffusers ``AutoencoderKL``)."""
    return SpatialVAE(spatial_structure(), micro_batch_size=None).module


def draw_batch(recipe: SpatialRecipe, step: int) -> tuple[Tensor, Tensor]:
    """Return pixels [B, 3, H, W] in -1..1 and object coverage [B, 1, H, W] of one step."""
    generator = np.random.default_rng([recipe.seed, step])
    crops = step < recipe.crop_steps
    # One whole-frame step in five is at double size, a quarter of the batch: the same work.
    size = BASE_SIZE if crops or step % 5 else 2 * BASE_SIZE
    count = recipe.batch if crops else recipe.frame_batch * BASE_SIZE**2 // size**2
    pixels, covered = [], []
    for _ in range(count):
        scene, _ = make_scene(recipe.seed, int(generator.integers(2**31)))
        frame = int(generator.integers(NUM_FRAMES))
        picture, alpha = render_frames(scene, [frame], size)
        if crops:
            thing = scene.objects[int(generator.integers(len(scene.objects)))]
            centre = (thing.y + frame * thing.dy, thing.x + frame * thing.dx)
            corner = [
                int(np.clip(c - recipe.crop / 2 + generator.uniform(-10, 10), 0, BASE_SIZE - recipe.crop))
                for c in centre
            ]
            window = (slice(None), *(slice(c, c + recipe.crop) for c in corner))
            picture, alpha = picture[window], alpha[window]
        pixels.append(picture)
        covered.append(alpha)
    stacked = torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2).contiguous()
    return stacked, torch.from_numpy(np.concatenate(covered))[:, None]


def train_spatial(recipe: SpatialRecipe, folder: Path, save_every: int = 500) -> Any:
    """Train, or go on training, the spatial stage; return the model in evaluation mode."""
    torch.manual_seed(recipe.seed)
    vae = build_spatial().train()
    total = recipe.crop_steps + recipe.frame_steps
    optimizer = torch.optim.AdamW(vae.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / recipe.warm_up, max(1 - s / total, 0.01))
    )
    progress = Progress(folder, "spatial", model=vae, optimizer=optimizer, schedule=schedule)
    for step in range(progress.resume(), total):
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        pixels, covered = draw_batch(recipe, step)
        posterior = vae.encode(pixels).latent_dist
        error = vae.decode(posterior.sample()).sample - pixels
        weight = 1 + recipe.object_weight * functional.max_pool2d(covered, 3, 1, 1)
        weight = weight / weight.mean()
        loss = (weight * (error.abs() + error.square())).mean() + recipe.kl_weight * posterior.kl().mean()
        descend(loss, vae, optimizer, schedule)
        progress.after(step + 1, loss.item(), save_every, total)
    return vae.eval()
