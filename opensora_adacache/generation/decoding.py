"""Decode latents to frames, on one device or chunk by chunk on those of a team.

Letters: C latent channels, T latent frames, F frames, H and W pixels or latent rows and columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opensora_adacache.caching.team import Team
from opensora_adacache.parallel.team import DeviceTeam

if TYPE_CHECKING:
    from opensora_adacache.models import OpenSoraVAE


def decode(vae: OpenSoraVAE, latents: Tensor, num_frames: int, team: Team) -> Tensor:
    """Return the frames [3, F, H, W] of one clip's latents [C, T, H, W], in float32 on the CPU, not clamped to -1..1.

    In a team, chunk i of the VAE is decoded by process i modulo the size of the team, and the first process gets all
    frames. The others get none: [3, 0, H, W].
    """
    if not isinstance(team, DeviceTeam):
        return _decode(vae, latents, num_frames)
    size = vae.micro_frame_size or num_frames
    lengths = [min(size, num_frames - start) for start in range(0, num_frames, size)]
    chunks = latents.split([vae.latent_size((length, 0, 0))[0] for length in lengths], dim=1)
    mine = range(team.place, len(chunks), team.size)
    decoded = {index: _decode(vae, chunks[index], lengths[index]) for index in mine}
    height, width = (side * vae.spatial_vae.factor for side in latents.shape[2:])
    frames = [torch.empty(3, 0, height, width)]
    for index, length in enumerate(lengths):
        chunk = team.bring(decoded.get(index), (3, length, height, width), holder=index % team.size)
        if chunk is not None:
            frames.append(chunk)
    return torch.cat(frames, dim=1)


def _decode(vae: OpenSoraVAE, latents: Tensor, num_frames: int) -> Tensor:
    return vae.decode(latents[None].to(vae.dtype), num_frames)[0].float().cpu()
