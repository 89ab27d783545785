"""Sequence and guidance parallelism for STDiT3, attached from outside as a cache is.

Each process of a team runs the model on its guidance branch and on its frames. Everything but attention over time acts
within a frame or on single tokens, so it runs as it is. Around attention over time, frames are exchanged for places
and back: two all-to-alls per layer. (Dynamic sequence parallelism, arXiv 2403.10266, sends as many bytes, around the
whole temporal block.) All residuals hold whole frames and stay where they were computed, so a cache reuses them without
a message. The outputs are gathered, so the sampler gets what one process would return.

Only `model.forward` and the attentions over time are wrapped. A cache wraps the call of the model and the methods of
its blocks. The two never wrap the same function, so the order in which they are attached does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from torch import Tensor, nn

from opensora_adacache.adapters.patches import Patches
from opensora_adacache.caching.team import Team
from opensora_adacache.models.conditioning import Conditioning
from opensora_adacache.models.stdit3 import STDiT3, STDiT3Block
from opensora_adacache.parallel.team import DeviceTeam

_TEAM = "_team"


def split_stdit3(model: STDiT3, team: DeviceTeam) -> Callable[[], None]:
    """Let the processes of a team run each call of the model together.

    Attach it between runs, before or after a cache. Every process must then call the model with the same arguments, and
    all of them get the whole output.

    Returns:
        A function that makes the model run on its own again.

    Raises:
        ValueError: the model is split already, compiled, or joins several frames to a patch.
    """
    if isinstance(team_of(model), DeviceTeam):
        raise ValueError("this model is split between devices already: undo that first")
    if model.config.patch_size[0] != 1:
        raise ValueError(f"a model with patches of {model.config.patch_size[0]} frames cannot be split by frames")
    if team.num_parts > 1 and any(block.compiler is not None for block in model.blocks()):
        raise ValueError("compiled blocks cannot exchange tokens: set model.compile=False, or parallel.sequence=1")
    patches = Patches()
    patches.set(model, _TEAM, team)
    patches.wrap(model, "forward", partial(_forward, model, team))
    if team.num_parts > 1:
        for block in model.temporal_blocks:
            patches.wrap(cast(STDiT3Block, block).attn, "forward", partial(_attention, team))
    return patches.restore


def team_of(model: nn.Module) -> Team:
    """Return the team that runs each call of a model together."""
    return vars(model).get(_TEAM) or Team()


def _forward(model: STDiT3, team: DeviceTeam, original: Callable) -> Callable:
    def forward(
        x: Tensor,
        timestep: Tensor,
        y: Tensor | None = None,
        mask: Tensor | None = None,
        x_mask: Tensor | None = None,
        fps: Tensor | None = None,
        height: Tensor | None = None,
        width: Tensor | None = None,
        conditioning: Conditioning | None = None,
        **_: object,
    ) -> Tensor:
        num_rows, num_frames = x.shape[0], x.shape[2]
        if conditioning is None:
            if y is None:
                return original(x, timestep)  # which says what is missing
            conditioning = model.prepare(y, mask, fps, height, width, latent_size=x.shape[2:])
        rows, frames = team.rows(num_rows), team.frames(num_frames)
        if x_mask is not None:
            x_mask = x_mask.repeat(num_rows // len(x_mask), 1)[rows, frames]
        part = conditioning.part(rows, frames)
        out = original(x[rows, :, frames], timestep[rows], x_mask=x_mask, conditioning=part)
        return team.gather_output(out, num_frames)

    return forward


def _attention(team: DeviceTeam, original: Callable) -> Callable:
    def forward(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        out = original(team.to_places(x, num_frames=len(rotary[0])), rotary)
        return team.to_frames(out, num_places=x.shape[2])

    return forward
