"""Encodes frames and clips for training, and normalizes latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opensora_adacache.models.temporal_vae import TemporalVAE
from opensora_adacache.models.vae import SPATIAL_SCALE, OpenSoraVAE, OpenSoraVAEConfig
from opensora_adacache.scenes.batches import draw_clips
from opensora_adacache.scenes.halved import Halved
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.structure import DEVIATION


@torch.no_grad()
def encode_frames(vae: Halved, clips: Tensor) -> Tensor:
    """Return scaled spatial latents [B, C, F, h, w], float32, of clips [B, F, 3, H, W]."""
    mean = vae.call("encode", clips.flatten(0, 1)).latent_dist.mean.float() * SPATIAL_SCALE
    return mean.unflatten(0, clips.shape[:2]).transpose(1, 2)


@torch.no_grad()
def encode_clips(vae: OpenSoraVAE, clips: Tensor) -> Tensor:
    """Return normalized float32 latents [B, C, T, h, w] of clips [B, F, 3, H, W] in one pass; bfloat16 on a GPU."""
    fast = clips.device.type == "cuda"
    latents = encode_frames(Halved(vae.spatial_vae.module, fast), clips)
    mean = Halved(vae.temporal_vae, fast).call("encode", latents)[0].float()
    return (mean - vae.shift) / vae.scale


@torch.no_grad()
def normalise(vae: Any, latents: Tensor) -> None:
    """Fold a normalization into the spatial part so that its scaled latents have mean 0 and standard deviation 1.

    The 1x1 convolutions next to the latents absorb it exactly.

    Args:
        vae: changed in place.
        latents: scaled latents of some clips, with channels on axis 1.
    """
    axes = [0, *range(2, latents.dim())]
    mean, deviation = latents.mean(axes), latents.std(axes)
    count = len(mean)
    # New latent = (old - mean / scale) / deviation.
    vae.quant_conv.bias[:count] -= mean / SPATIAL_SCALE
    vae.quant_conv.bias[:count] /= deviation
    vae.quant_conv.weight[:count] /= deviation[:, None, None, None]
    vae.quant_conv.bias[count:] -= 2 * deviation.log()
    weight = vae.post_quant_conv.weight
    vae.post_quant_conv.bias += weight[:, :, 0, 0] @ (mean / SPATIAL_SCALE)
    weight *= deviation[None, :, None, None]


@torch.no_grad()
def assemble(structure: OpenSoraVAEConfig, spatial: Any, temporal: TemporalVAE, render: Renderer) -> OpenSoraVAE:
    """Join the two parts; the buffers `shift` and `scale` give latents mean 0 and standard deviation ``DEVIATION``."""
    clips, _ = draw_clips(np.random.default_rng([0, 1 << 41]), 64, render)
    raw = torch.cat(
        [temporal.encode(encode_frames(Halved(spatial, False), part))[0].float() for part in clips.split(16)]
    )
    axes = (0, 2, 3, 4)
    shift, scale = raw.mean(axes), raw.std(axes) / DEVIATION
    config = replace(structure, shift=tuple(shift.tolist()), scale=tuple(scale.tolist()))
    vae = OpenSoraVAE(config).to(raw.device)
    vae.spatial_vae.module.load_state_dict(spatial.state_dict())
    vae.temporal_vae.load_state_dict(temporal.state_dict())
    return vae.eval().requires_grad_(False)
