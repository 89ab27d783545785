"""Measures what the VAE loses of clips, and whether every latent channel matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opensora_adacache.errors.family import TrainingError
from opensora_adacache.models.vae import SPATIAL_SCALE, OpenSoraVAE
from opensora_adacache.scenes.draw import draw_specs
from opensora_adacache.scenes.halved import Halved
from opensora_adacache.scenes.latents import encode_frames
from opensora_adacache.scenes.outline_error import read_outlines
from opensora_adacache.scenes.place import place
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spec import Spec
from opensora_adacache.scenes.words import NUM_FRAMES


def psnr(made: Tensor, drawn: Tensor) -> float:
    """Return the mean PSNR in dB of clips [B, 3, F, H, W] in -1..1."""
    errors = ((made - drawn) / 2).square().mean((1, 2, 3, 4))
    return float((-10 * errors.log10()).mean())


@torch.no_grad()
def without_channels(latents: Tensor, decode: Callable[[Tensor], Tensor], drawn: Tensor) -> list[float]:
    """Return the PSNR of clips decoded from latents [B, C, T, h, w] with one channel at its mean, for each channel."""
    found = []
    for channel in range(latents.shape[1]):
        changed = latents.clone()
        changed[:, channel] = latents[:, channel].mean()
        found.append(psnr(decode(changed), drawn))
    return found


@torch.no_grad()
def heldout_clips(render: Renderer, count: int) -> Tensor:
    """Return clips [B, 3, F, H, W] that do not occur in training, the same ones at every call."""
    rng = np.random.default_rng(7)
    pixels, _ = render(place(draw_specs(rng, count, held_out=True), rng))
    return pixels.transpose(1, 2)


@torch.no_grad()
def check_frames(vae: Any, clips: Tensor, least: float) -> str:
    """Return a line with the PSNR of the frames of clips [B, 3, F, H, W] after the spatial part of the VAE.

    Args:
        vae: the spatial part, as `train_spatial` returns it.
        clips: drawn clips.
        least: the PSNR that the temporal stage needs, in dB.

    Raises:
        TrainingError: the PSNR is lower. All later stages would be for nothing.
    """
    latents = encode_frames(Halved(vae, False), clips.transpose(1, 2)).transpose(1, 2)
    made = vae.decode(latents.flatten(0, 1) / SPATIAL_SCALE).sample.unflatten(0, latents.shape[:2])
    found = psnr(made.transpose(1, 2).clamp(-1, 1), clips)
    if not found >= least:
        raise TrainingError(
            f"the spatial VAE must reach {least} dB on held-out frames, but reached {found:.1f} dB; "
            "remove spatial.pt and train the spatial stage for longer"
        )
    return f"{found:.1f} dB"


@torch.no_grad()
def check_channels(vae: OpenSoraVAE, clips: Tensor, least: float) -> str:
    """Return a line with the PSNR of clips [B, 3, F, H, W] and what each latent channel adds to it.

    Args:
        vae: the VAE to check.
        clips: drawn clips.
        least: what every channel must add, in dB.

    Raises:
        TrainingError: a channel adds less. The transformer would have to learn it like the others, for nothing.
    """

    def decode(latents: Tensor) -> Tensor:
        return vae.decode(latents, NUM_FRAMES).clamp(-1, 1)

    latents = vae.encode(clips)
    whole = psnr(decode(latents), clips)
    added = [whole - without for without in without_channels(latents, decode, clips)]
    line = f"{whole:.1f} dB; the channels add {', '.join(f'{gain:.1f}' for gain in added)} dB"
    dead = [str(channel) for channel, gain in enumerate(added) if not gain >= least]  # NaN is not enough either
    if dead:
        raise TrainingError(
            f"every latent channel must add at least {least} dB to the PSNR of held-out clips, but channel "
            f"{' and '.join(dead)} does not ({line}); remove temporal.pt and train the temporal stage for longer"
        )
    return line


def outlines_of(clips: Tensor, specs: Sequence[Spec]) -> str:
    """Return cells of a table: mean error, fraction kept and number of the outlines in clips [B, 3, F, H, W]."""
    found = [
        outline
        for clip, spec in zip(clips, specs, strict=True)
        for outline in read_outlines(
            clip.numpy(),
            {thing.colour: thing.shape for thing in spec.things},
            resizing=spec.kind in ("grow", "shrink"),
        )
    ]
    error, kept = (np.mean([getattr(outline, name) for outline in found]) for name in ("error", "kept"))
    return f"{error:.3f} | {100 * kept:.1f} % | {len(found)}"
