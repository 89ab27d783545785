"""Train the temporal VAE of the bundled model on cached spatial latents of 17-frame clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opensora_adacache.models.temporal_vae import TemporalVAE, TemporalVAEConfig
from opensora_adacache.models.vae import SPATIAL_SCALE
from opensora_adacache.shapes.latents import SpatialCache
from opensora_adacache.shapes.progress import Progress, descend


@dataclass(frozen=True)
class TemporalRecipe:
    """Steps and weights of the temporal stage."""

    steps: int = 850
    learning_rate: float = 2.5e-3
    batch: int = 8
    kl_weight: float = 3e-6
    warm_up: int = 50
    seed: int = 0


def build_temporal() -> TemporalVAE:
    """Return the small temporal autoencoder: 17 frames to 5 latents."""
    return TemporalVAE(
        TemporalVAEConfig(
            filters=32,
            num_res_blocks=1,
            channel_multipliers=(1, 2, 2, 2),
            temporal_downsample=(False, True, True),
            latent_channels=4,
            num_groups=8,
        )
    )


@torch.no_grad()
def normalise_spatial(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Fold a normalisation into the spatial VAE so that its scaled latents have mean 0 and deviation 1.

    The 1x1 convolutions next to the latents take it up exactly; call it once, before encoding the cache.

    Args:
        vae: changed in place.
        latents: scaled latents of some clips, channels on axis 1.

    Returns:
        The mean and deviation that were removed, each [4].
    """
    axes = [0, *range(2, latents.dim())]
    mean, deviation = latents.float().mean(axes), latents.float().std(axes)
    count = len(mean)
    # New latent = (old - mean / scale) / deviation.
    vae.quant_conv.bias[:count] -= mean / SPATIAL_SCALE
    vae.quant_conv.bias[:count] /= deviation
    vae.quant_conv.weight[:count] /= deviation[:, None, None, None]
    vae.quant_conv.bias[count:] -= 2 * deviation.log()
    weight = vae.post_quant_conv.weight
    vae.post_quant_conv.bias += weight[:, :, 0, 0] @ (mean / SPATIAL_SCALE)
    weight *= deviation[None, :, None, None]
    return mean, deviation


def train_temporal(recipe: TemporalRecipe, cache: SpatialCache, folder: Path, save_every: int = 200) -> TemporalVAE:
    """Train, or go on training, the temporal stage; return the model in evaluation mode."""
    torch.manual_seed(recipe.seed)
    vae = build_temporal().train()
    optimizer = torch.optim.AdamW(vae.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / recipe.warm_up, max(1 - s / recipe.steps, 0.01))
    )
    progress = Progress(folder, "temporal", model=vae, optimizer=optimizer, schedule=schedule)
    for step in range(progress.resume(), recipe.steps):
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        generator = np.random.default_rng([recipe.seed, step])
        chosen = torch.from_numpy(generator.integers(len(cache.specs), size=recipe.batch))
        clips = cache.latents[chosen].float()
        mean, logvar = vae.encode(clips)
        sample = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        error = vae.decode(sample, clips.shape[2]) - clips
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3, 4)).mean()
        loss = error.abs().mean() + error.square().mean() + recipe.kl_weight * divergence
        descend(loss, vae, optimizer, schedule)
        progress.after(step + 1, loss.item(), save_every, recipe.steps)
    return vae.eval()
