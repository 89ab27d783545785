"""Encodes frames and clips for training, and normalizes latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from opensora_adacache.models.temporal_vae import TemporalVAE
from opensora_adacache.models.vae import SPATIAL_SCALE, OpenSoraVAE, OpenSoraVAEConfig
from opensora_adacache.scenes.halved import Halved
from opensora_adacache.scenes.structure import DEVIATION


@torch.no_grad()
def encode_frames(vae: Halved, clips: Tensor) -> Tensor:
    """Return scaled spatial latents [B, C, F, h, w], float32, of clips [B, F, 3, H, W]."""
    mean = vae.call("encode", clips.flatten(0, 1)).latent_dist.mean.float() * SPATIAL_SCALE
    return mean.unflatten(0, clips.shape[:2]).transpose(1, 2)


@torch.no_grad()
def encode_kept(spatial: Any, frames: Tensor) -> Tensor:
    """Return normalized latents [B, C, T, h, w], float32, of the kept frames [B, T, 3, H, W] of clips.

    The whole VAE gives the same for whole clips, up to the scale of its group norms (about 1 %).
    """
    return DEVIATION * encode_frames(Halved(spatial, frames.device.type == "cuda"), frames)


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


def assemble(structure: OpenSoraVAEConfig, spatial: Any, temporal: TemporalVAE) -> OpenSoraVAE:
    """Join the two parts; the buffer `scale` gives the latents, which `normalise` made standard, ``DEVIATION``."""
    channels = structure.temporal.latent_channels
    config = replace(structure, shift=(0.0,) * channels, scale=(1 / DEVIATION,) * channels)
    vae = OpenSoraVAE(config).to(next(spatial.parameters()).device)
    vae.spatial_vae.module.load_state_dict(spatial.state_dict())
    vae.temporal_vae.load_state_dict(temporal.state_dict())
    return vae.eval().requires_grad_(False)
