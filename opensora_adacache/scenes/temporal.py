"""Trains the temporal decoder of the bundled model's VAE on clips, together with the frame decoder.

The temporal encoder stays as ``keyframes.keep_frames`` sets it: the latents of a clip are those of its kept frames. The
temporal decoder learns to restore the frames between them, and the frame decoder learns to compensate for its errors.
Because no encoder changes, the transformer needs nothing of this stage: its latents are final after the spatial stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from opensora_adacache.models.temporal_vae import TemporalVAE
from opensora_adacache.models.vae import SPATIAL_SCALE, OpenSoraVAE, OpenSoraVAEConfig
from opensora_adacache.scenes.batches import draw_clips
from opensora_adacache.scenes.halved import Halved, tuned
from opensora_adacache.scenes.keyframes import keep_frames, kept_frames
from opensora_adacache.scenes.latents import assemble, encode_frames
from opensora_adacache.scenes.losses import Emphasis, error_of, error_of_changes, pixel_weights
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import FIRST_LOGVAR
from opensora_adacache.scenes.stage import Budget, Stage, descend, learning_rate, set_rate
from opensora_adacache.scenes.structure import VAE, spatial_factor
from opensora_adacache.scenes.words import NUM_FRAMES


@dataclass(frozen=True)
class TemporalRecipe:
    """Rates and weights of the temporal stage.

    As in the spatial stage, the first clips are crops. Of each clip, `frames` successive frames are decoded to pixels
    at first, and all frames of `last_clips` clips from the fraction `all_frames_from` of the budget. Latents get noise
    of up to `noise` times their deviation, because those of the transformer will not be perfect either.
    """

    clips: int = 56
    frames: int = 5
    crop: float = 0.5
    crop_clips: int = 176
    crops_until: float = 0.35
    last_clips: int = 26
    all_frames_from: float = 0.67
    learning_rate: float = 1e-3
    decoder_share: float = 0.3
    warm_up: int = 100
    decay_from: float = 0.3
    emphasis: Emphasis = Emphasis()
    pixel_weight: float = 2.0
    change_weight: float = 1.0
    noise: float = 0.15
    seed: int = 0
    structure: OpenSoraVAEConfig = VAE


def build_temporal(structure: OpenSoraVAEConfig = VAE) -> TemporalVAE:
    """Return the temporal part, untrained: it keeps every fourth frame and repeats it."""
    vae = TemporalVAE(structure.temporal)
    keep_frames(vae)
    bias = vae.quant_conv.conv.bias
    assert bias is not None
    with torch.no_grad():
        bias[structure.temporal.latent_channels :] = FIRST_LOGVAR
    return vae


def train_temporal(
    recipe: TemporalRecipe,
    spatial: Any,
    folder: Path,
    budget: Budget,
    device: torch.device,
    size: int,
    stop_after: int | None = None,
) -> OpenSoraVAE:
    """Train or continue to train both decoders; return the whole VAE for inference."""
    torch.manual_seed(recipe.seed)
    temporal = build_temporal(recipe.structure).to(device).requires_grad_(False)
    spatial_parts = nn.ModuleList([spatial.decoder, spatial.post_quant_conv])
    temporal_parts = nn.ModuleList([temporal.decoder, temporal.post_quant_conv])
    learners = nn.ModuleDict({"temporal": temporal_parts, "spatial": spatial_parts}).train().requires_grad_(True)
    groups: list[dict[str, Any]] = [
        {"params": [*temporal_parts.parameters()]},
        {"params": [*spatial_parts.parameters()], "share": recipe.decoder_share},
    ]
    optimizer = torch.optim.AdamW(groups, recipe.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    stage = Stage(folder, "temporal", budget, {"model": learners, "optimizer": optimizer}, stop_after=stop_after)
    stage.resume(device)
    fast = device.type == "cuda"
    frames, clips, render = Halved(spatial, fast), Halved(temporal, fast), Renderer(device, size)
    with tuned(device):
        for step in stage:
            set_rate(
                optimizer, learning_rate(recipe.learning_rate, stage.fraction, step, recipe.warm_up, recipe.decay_from)
            )
            torch.manual_seed(recipe.seed * 1_000_003 + step)
            rng = np.random.default_rng([recipe.seed, 1, step])
            pixels, covered, window = draw_batch(recipe, rng, render, stage.fraction)
            loss = restore(recipe, frames, clips, pixels, covered, window)
            descend(loss, learners, optimizer)
            stage.note(loss)
    learners.eval().requires_grad_(False)
    return assemble(recipe.structure, spatial, temporal)


def draw_batch(
    recipe: TemporalRecipe, rng: np.random.Generator, render: Renderer, fraction: float
) -> tuple[Tensor, Tensor, slice]:
    """Return pixels and coverage of the clips of one step, and which frames are decoded to pixels."""
    if fraction < recipe.crops_until:
        pixels, covered = draw_clips(rng, recipe.crop_clips, render, recipe.crop)
    elif fraction < recipe.all_frames_from:
        pixels, covered = draw_clips(rng, recipe.clips, render)
    else:
        return *draw_clips(rng, recipe.last_clips, render), slice(NUM_FRAMES)
    first = int(rng.integers(NUM_FRAMES - recipe.frames + 1))
    return pixels, covered, slice(first, first + recipe.frames)


def restore(
    recipe: TemporalRecipe, frames: Halved, clips: Halved, pixels: Tensor, covered: Tensor, window: slice
) -> Tensor:
    """Decode clips from the latents of their kept frames; return the loss of latents and pixels.

    Args:
        recipe: weights of the loss.
        frames: the spatial part.
        clips: the temporal part.
        pixels: [B, F, 3, H, W].
        covered: [B, F, 1, H, W].
        window: the frames that are decoded to pixels.
    """
    latents = encode_frames(frames, pixels)
    kept = latents[:, :, kept_frames(NUM_FRAMES, recipe.structure.temporal.time_factor)]
    level = recipe.noise * torch.rand(len(kept), 1, 1, 1, 1, device=kept.device)
    rebuilt = clips.call("decode", kept + level * torch.randn_like(kept), NUM_FRAMES).float()

    weights = pixel_weights(pixels.flatten(0, 1), covered.flatten(0, 1), recipe.emphasis)
    pooled = functional.avg_pool2d(weights, spatial_factor(recipe.structure)).unflatten(0, pixels.shape[:2])
    weights = weights.unflatten(0, pixels.shape[:2])[:, window]
    chosen = rebuilt[:, :, window].transpose(1, 2)
    decoded = frames.call("decode", chosen.flatten(0, 1) / SPATIAL_SCALE).sample.float()
    wrong = decoded.unflatten(0, chosen.shape[:2]) - pixels[:, window]

    return (
        error_of(rebuilt - latents, pooled.transpose(1, 2))
        + recipe.pixel_weight * error_of(wrong, weights)
        + recipe.change_weight * error_of_changes(wrong, weights)
    )
