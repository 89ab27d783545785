"""Decode the middle frame of a pipeline's latents before its end, as the pipeline itself would decode the whole video.

Letters: B videos, C channels of the latents, T latent frames, h and w latent rows and columns, N = T·h·w tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from opensora_adacache.adapters.bases import base_among
from opensora_adacache.errors.family import MediaError

Layout = Literal["channels first", "frames first", "tokens"]

LAYOUTS: dict[str, Layout] = {
    "AutoencoderKL": "channels first",
    "AutoencoderKLCogVideoX": "frames first",
    "AutoencoderKLHunyuanVideo": "channels first",
    "AutoencoderKLHunyuanVideo15": "channels first",
    "AutoencoderKLLTX2Video": "tokens",
    "AutoencoderKLLTXVideo": "tokens",
    "AutoencoderKLMochi": "channels first",
    "AutoencoderKLWan": "channels first",
}
"""Class of a VAE → layout of the latents in its pipelines: [B, C, T, h, w], [B, T, C, h, w] or [B, N, C]."""
# Latent frames around the middle one that are decoded with it. Frames further away change it little, but decoding them
# would take as long as decoding the video.
_NEIGHBOURS = 1


def decode_middle_frame(
    vae: Any, decode: Callable[..., Any], latents: Tensor, grid: tuple[int, int, int] | None
) -> Tensor:
    """Return the middle frame [B, 3, H, W] of each video, about in -1..1, in float32 on the CPU.

    A VAE of pictures decodes that frame alone. A VAE of videos decodes three latent frames, so its frame differs a
    little from that of the whole video. The global random streams are left as they are.

    Args:
        vae: the VAE.
        decode: its `decode`.
        latents: normalised latents, as the pipeline holds them.
        grid: (T, h, w) for latents that are tokens.

    Raises:
        MediaError: how such latents are laid out is unknown.
    """
    videos = _channels_first(vae, latents, grid)
    middle, is_2d = videos.shape[2] // 2, base_among(vae, ("AutoencoderKL",)) is not None
    near = 0 if is_2d else _NEIGHBOURS
    videos = _denormalised(vae, videos[:, :, max(middle - near, 0) : middle + near + 1]).to(vae.dtype)
    devices = [latents.device] if latents.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # some decoders add noise
        frames = [_decoded(vae, decode, video, is_2d) for video in videos.split(1)]
    return torch.cat(frames).float().cpu()


def _decoded(vae: Any, decode: Callable[..., Any], video: Tensor, is_2d: bool) -> Tensor:
    """Return the middle frame [1, 3, H, W] of latents [1, C, t, h, w]."""
    if is_2d:
        return decode(video[:, :, 0], return_dict=False)[0]
    # at timestep 0, the default of pipelines whose VAE removes the last noise itself
    takes_time = getattr(vae.config, "timestep_conditioning", False)
    time = {"temb": torch.zeros(1, device=video.device, dtype=video.dtype)} if takes_time else {}
    frames = decode(video, **time, return_dict=False)[0]
    return frames[:, :, frames.shape[2] // 2]


def _channels_first(vae: Any, latents: Tensor, grid: tuple[int, int, int] | None) -> Tensor:
    """Return latents as [B, C, T, h, w]."""
    known = base_among(vae, LAYOUTS)
    layout = None if known is None else LAYOUTS[known]
    if layout == "channels first" and latents.ndim == 5:
        return latents
    if layout == "frames first" and latents.ndim == 5:
        return latents.transpose(1, 2)
    if layout == "tokens" and latents.ndim == 3 and grid is not None:
        return latents.transpose(1, 2).unflatten(2, grid)
    raise MediaError(f"latents {list(latents.shape)} of {type(vae).__name__} have an unknown layout")


def _denormalised(vae: Any, latents: Tensor) -> Tensor:
    """Return what the VAE decodes, z·std / scale + mean, in float32; its config or its buffers have the numbers."""
    numbers = {**vae.config, **dict(vae.named_buffers(recurse=False))}

    def each_channel(name: str, default: float) -> Tensor:
        value = numbers.get(name)
        return torch.as_tensor(default if value is None else value).to(latents.device, torch.float32).view(-1, 1, 1, 1)

    scale = numbers.get("scaling_factor", 1.0)
    return latents.float() * each_channel("latents_std", 1.0) / scale + each_channel("latents_mean", 0.0)
