"""Trains the temporal decoder of the bundled model's VAE on clips, together with the frame decoder.

The temporal encoder stays as ``keyframes.keep_frames`` sets it: the latents of a clip are those of its kept frames. The
temporal decoder learns to restore the frames between them, and the frame decoder learns to compensate for its errors.
Because no encoder changes, the transformer needs nothing of this stage: its latents are final after the spatial stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opensora_adacache.models.temporal_vae import TemporalVAE
from opensora_adacache.models.vae import SPATIAL_SCALE, OpenSoraVAE, OpenSoraVAEConfig
from opensora_adacache.scenes.batches import draw_clips
from opensora_adacache.scenes.halved import Halved, tuned
from opensora_adacache.scenes.keyframes import keep_frames, kept_frames
from opensora_adacache.scenes.latents import assemble, encode_frames
from opensora_adacache.scenes.losses import Emphasis, error_of, error_of_changes, pixel_weights, pooled
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import FIRST_LOGVAR
from opensora_adacache.scenes.stage import Budget, Stage, descend, learning_rate, set_rate
from opensora_adacache.scenes.structure import VAE, spatial_factor
from opensora_adacache.scenes.windows import LatentWindows
from opensora_adacache.scenes.words import NUM_FRAMES


@dataclass(frozen=True)
class TemporalRecipe:
    """Rates and weights of the temporal stage.

    Up to the fraction `windows_until` of the budget, the temporal decoder alone learns, from latents of `windows`
    windows around objects, whose size is `crop` as a fraction of the width; of the `held` encoded clips that they are
    cut from, one chunk is replaced every `renew_every` steps. After that both decoders learn from whole clips:
    `frames` successive frames of each are decoded to pixels at first, and all frames of `last_clips` clips from the
    fraction `all_frames_from`. Latents get noise of up to `noise` times their deviation, because those of the
    transformer will not be perfect either.
    """

    windows: int = 176
    crop: float = 0.5
    held: int = 1024
    renew_every: int = 1
    windows_until: float = 0.8
    clips: int = 56
    frames: int = 5
    last_clips: int = 26
    all_frames_from: float = 0.9
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
    # On a CPU too, convolutions over clips take two thirds of the time in bfloat16.
    frames, clips, render = Halved(spatial, True), Halved(temporal, True), Renderer(device, size)
    pool = LatentWindows(partial(encode_frames, frames), render, recipe.emphasis, recipe.held, recipe.seed)
    with tuned(device):
        for step in stage:
            set_rate(
                optimizer, learning_rate(recipe.learning_rate, stage.fraction, step, recipe.warm_up, recipe.decay_from)
            )
            torch.manual_seed(recipe.seed * 1_000_003 + step)
            rng = np.random.default_rng([recipe.seed, 1, step])
            if stage.fraction < recipe.windows_until:
                if pool.held is None:
                    pool.fill(step // recipe.renew_every)
                loss, shown = windows_loss(recipe, rng, clips, pool)
                pool.renew(step, recipe.renew_every)
            else:
                loss, shown = clips_loss(recipe, rng, clips, frames, render, stage.fraction >= recipe.all_frames_from)
            descend(loss, learners, optimizer)
            stage.note(shown)
    learners.eval().requires_grad_(False)
    return assemble(recipe.structure, spatial, temporal)


def restore(recipe: TemporalRecipe, clips: Halved, latents: Tensor) -> Tensor:
    """Return all latents [B, C, F, h, w] of clips, decoded from those of the kept frames with noise added to them."""
    kept = latents[:, :, kept_frames(NUM_FRAMES, recipe.structure.temporal.time_factor)]
    level = recipe.noise * torch.rand(len(kept), 1, 1, 1, 1, device=kept.device)
    return clips.call("decode", kept + level * torch.randn_like(kept), NUM_FRAMES).float()


def windows_loss(
    recipe: TemporalRecipe, rng: np.random.Generator, clips: Halved, pool: LatentWindows
) -> tuple[Tensor, Tensor]:
    """Return the loss of windows, in which objects count more than in whole clips, and the error of their latents."""
    latents, weights = pool.draw(rng, recipe.windows, int(recipe.crop * pool.width))
    wrong = restore(recipe, clips, latents) - latents
    changes = error_of_changes(wrong.transpose(1, 2), weights.transpose(1, 2))
    error = error_of(wrong, weights)
    return error + recipe.change_weight * changes, error


def clips_loss(
    recipe: TemporalRecipe, rng: np.random.Generator, clips: Halved, frames: Halved, render: Renderer, whole: bool
) -> tuple[Tensor, Tensor]:
    """Return the loss of latents and pixels of clips, of all their frames if `whole`, and the error of their latents.

    This error is what all of the stage can be compared by; the loss of windows has no pixels.
    """
    pixels, covered = draw_clips(rng, recipe.last_clips if whole else recipe.clips, render)
    first, count = (0, NUM_FRAMES) if whole else (int(rng.integers(NUM_FRAMES - recipe.frames + 1)), recipe.frames)
    window = slice(first, first + count)
    latents = encode_frames(frames, pixels)
    rebuilt = restore(recipe, clips, latents)

    weights = pixel_weights(pixels.flatten(0, 1), covered.flatten(0, 1), recipe.emphasis)
    weights = weights.unflatten(0, pixels.shape[:2])
    of_latents, weights = pooled(weights, spatial_factor(recipe.structure)), weights[:, window]
    chosen = rebuilt[:, :, window].transpose(1, 2)
    decoded = frames.call("decode", chosen.flatten(0, 1) / SPATIAL_SCALE).sample.float()
    wrong = decoded.unflatten(0, chosen.shape[:2]) - pixels[:, window]

    error = error_of(rebuilt - latents, of_latents)
    of_pixels = recipe.pixel_weight * error_of(wrong, weights) + recipe.change_weight * error_of_changes(wrong, weights)
    return error + of_pixels, error
