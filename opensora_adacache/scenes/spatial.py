"""Trains the spatial part of the bundled model's VAE on single frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opensora_adacache.models.vae import OpenSoraVAEConfig, SpatialVAE
from opensora_adacache.scenes.batches import draw_clips, draw_frames
from opensora_adacache.scenes.halved import Halved
from opensora_adacache.scenes.latents import encode_frames, normalise
from opensora_adacache.scenes.losses import Emphasis, divergence, error_of, pixel_weights
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.stage import Budget, Stage, descend, learning_rate, set_rate
from opensora_adacache.scenes.structure import VAE

# Log variance of the posterior at the start of training: little noise, so that the decoder uses the latents at once.
FIRST_LOGVAR = -6.0


@dataclass(frozen=True)
class SpatialRecipe:
    """Rates and weights of the spatial stage.

    Up to the fraction `crops_until` of the budget, the stage trains on crops around the objects, whose size is `crop`
    as a fraction of the width, from `crop_frames` frames of each clip: colours are learned many times faster if the
    background does not outweigh them. After that it trains on whole frames, because their GroupNorm statistics differ
    from those of crops.
    """

    clips: int = 128
    frames: int = 2
    crop: float = 0.5
    crop_frames: int = 4
    crops_until: float = 0.4
    learning_rate: float = 2e-3
    warm_up: int = 50
    decay_from: float = 0.3
    emphasis: Emphasis = Emphasis()
    kl_weight: float = 1e-4
    seed: int = 0
    structure: OpenSoraVAEConfig = VAE


def build_spatial(structure: OpenSoraVAEConfig = VAE) -> Any:
    """Return the spatial part (a diffusers ``AutoencoderKL``), untrained."""
    module = SpatialVAE(structure, micro_batch_size=None).module
    with torch.no_grad():
        module.quant_conv.bias[structure.temporal.latent_channels :] = FIRST_LOGVAR
    return module


def train_spatial(
    recipe: SpatialRecipe,
    folder: Path,
    budget: Budget,
    device: torch.device,
    size: int,
    stop_after: int | None = None,
) -> Any:
    """Train or continue to train the spatial part; return it in evaluation mode with normalized latents."""
    torch.manual_seed(recipe.seed)
    vae = build_spatial(recipe.structure).to(device).train()
    optimizer = torch.optim.AdamW(
        vae.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4, fused=True
    )
    stage = Stage(folder, "spatial", budget, {"model": vae, "optimizer": optimizer}, stop_after=stop_after)
    stage.resume(device)
    halved, render = Halved(vae, device.type == "cuda"), Renderer(device, size)
    for step in stage:
        set_rate(
            optimizer, learning_rate(recipe.learning_rate, stage.fraction, step, recipe.warm_up, recipe.decay_from)
        )
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        rng = np.random.default_rng([recipe.seed, step])
        if stage.fraction < recipe.crops_until:
            pixels, covered = draw_frames(rng, recipe.clips, recipe.crop_frames, render, recipe.crop)
        else:
            pixels, covered = draw_frames(rng, recipe.clips, recipe.frames, render)
        posterior = halved.call("encode", pixels).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        decoded = halved.call("decode", latents).sample.float()
        loss = error_of(decoded - pixels, pixel_weights(pixels, covered, recipe.emphasis))
        descend(loss + recipe.kl_weight * divergence(mean, logvar), vae, optimizer)
        stage.note(loss)
    vae.eval().requires_grad_(False)
    if stop_after is None:
        clips, _ = draw_clips(np.random.default_rng([recipe.seed, 1 << 40]), 16, render)
        normalise(vae, encode_frames(Halved(vae, False), clips))
    return vae
