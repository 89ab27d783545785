"""What a policy can read of an STDiT3 when its block stack is about to run."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from opensora_adacache.caching.contract import Site, StackView
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.models.stdit3 import BlockInputs, STDiT3, STDiT3Block


def stack_view(
    session: CacheSession,
    model: STDiT3,
    x: Tensor,
    inputs: BlockInputs,
    first_residual: Tensor | None = None,
    sites: tuple[Site, ...] = (),
) -> StackView:
    """Return the view of the open step; a policy that decides about single sites chooses from `sites`."""
    first = cast(STDiT3Block, model.spatial_blocks[0])
    return StackView(
        step=session.step,
        x=x,
        timestep=session.timestep,
        num_frames=inputs.num_frames,
        frame_size=inputs.frame_size,
        first_residual=first_residual,
        modulated_input=lambda: first.modulated_input(x, inputs),
        store=session.store,
        sites=sites,
        time=session.time,
        complete=session.complete if sites else frozenset(),
    )
