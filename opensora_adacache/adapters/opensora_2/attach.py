"""Adapter for the MMDiT of Open-Sora 2.0.

Its blocks run as those of diffusers do (`block_stack`): first blocks with a stream for the text and one for the video,
then blocks with both in one sequence, the text first. This project includes neither its source nor its weights.

Letters: R batch rows (videos × guidance branches), N video tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from opensora_adacache.adapters.block_calls import BlockSignature
from opensora_adacache.adapters.block_stack import BlockStack, StackBlock
from opensora_adacache.adapters.patches import CALL, Patches
from opensora_adacache.adapters.probes import probed_layers, warn_of_misfit
from opensora_adacache.adapters.transformer_adapter import Grid, TransformerAdapter
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.session import CacheSession

FORWARD = ("img", "img_ids", "txt", "txt_ids", "timesteps", "y_vec", "cond", "guidance", "kwargs")
DOUBLE_FORWARD = ("self", "img", "txt", "vec", "pe", "kwargs")
SINGLE_FORWARD = ("self", "x", "vec", "pe", "kwargs")
"""Parameters of the forward of MMDiTModel and of its two kinds of blocks in version 2.0."""
PROCESSORS = {"DoubleStreamBlockProcessor", "SingleStreamBlockProcessor"}
STACKS = {
    "double_blocks": TransformerAdapter(
        stacks=("double_blocks",), block_tokens="img", block_text="txt", returns=("tokens", "text")
    ),
    "single_blocks": TransformerAdapter(stacks=("single_blocks",), block_tokens="x"),
}
"""Module list → how its blocks take and return tokens."""
MMDIT = TransformerAdapter(
    stacks=tuple(STACKS),
    joined=("single_blocks",),
    after_attention={"double_blocks": "img_norm2"},
    rectified_flow=True,
)
TIMESTEP_RANGE = 1000


def attach_opensora_2(model: Any, config: CacheConfig, num_sampling_steps: int) -> CacheSession:
    """Attach a session to an MMDiTModel; see `opensora_adacache.adapters.apply_cache`.

    The probe is in layer depth // 2 − 1 of all blocks: the attention of the video in a block with two streams, the
    residual of the whole block otherwise. With ``decision="sample"`` the three guidance branches of I2VDenoiser (with
    text and image, with the image, with neither), rows i, i + R/3 and i + 2R/3, decide together.

    Raises:
        ValueError: the package has another version or is split over devices, or the settings do not fit.
    """
    _check_version(model)
    blocks = [(stack, block) for stack in MMDIT.stacks for block in getattr(model, stack)]
    config.check_run(num_sampling_steps, len(blocks))
    if config.granularity != "stack":
        raise ValueError(f"on Open-Sora 2.0 only granularity='stack' is possible, got {config.granularity!r}")
    if config.probe is not None and config.probe.residual not in (None, "output"):
        raise ValueError("the attention of Open-Sora 2.0 is over space and time at once: leave cache_res out")
    if config.guidance_reuse is not None:
        raise ValueError("guidance_reuse knows two guidance branches, and Open-Sora 2.0 has three: leave it out")
    if model.__dict__.get(CALL) is not None:
        raise ValueError("this model has a cache attached already, or is compiled: detach that session first")
    warn_of_misfit(config, num_sampling_steps, type(model).__name__)

    layers = probed_layers(config.probe, len(blocks))
    stack_blocks = [
        StackBlock(
            module=block,
            stack=stack,
            signature=BlockSignature(type(block), STACKS[stack]),
            site=f"{number}.{stack}" if number in layers else None,
            after=MMDIT.after_attention.get(stack),
            shows_output=config.probe is not None and config.probe.residual == "output",
        )
        for number, (stack, block) in enumerate(blocks)
    ]
    attention = "img_attn.qkv" if model.config.fused_qkv else "img_attn.q_proj"
    session = CacheSession(config, num_sampling_steps, branches_in_batch=1)
    known = replace(MMDIT, attention=attention)
    stack = BlockStack(stack_blocks, known, config.num_first_blocks, config.reads_frames, partial(_blocks, model))
    patches = Patches()
    stack.wrap(patches)
    patches.wrap_model(model, partial(_call, session, stack, model))
    session.on_detach = patches.restore
    return session


def _blocks(model: nn.Module) -> list[nn.Module]:
    return [block for stack in MMDIT.stacks for block in getattr(model, stack)]


def _check_version(model: Any) -> None:
    """Raise ValueError if the classes are not those of version 2.0, or run on several devices."""
    modules = [model, *model.double_blocks[:1], *model.single_blocks[:1]]
    found = [
        tuple(inspect.signature(model.forward).parameters),
        *(tuple(inspect.signature(type(module).forward).parameters) for module in modules[1:]),
    ]
    if found != [FORWARD, DOUBLE_FORWARD, SINGLE_FORWARD]:
        raise ValueError(
            f"this adapter supports Open-Sora 2.0, whose MMDiTModel takes ({', '.join(FORWARD)}), "
            f"got ({', '.join(found[0])}): use that version"
        )
    if {type(block.processor).__name__ for block in _blocks(model)} - PROCESSORS:
        raise ValueError(
            "this model is split over several devices, which is not supported with a cache: build it without plugins"
        )


def _call(session: CacheSession, stack: BlockStack, model: Any, original: Callable) -> Callable:
    signature = inspect.signature(model.forward)
    layout = _Layout()

    def call(*args: Any, **kwargs: Any) -> Tensor:
        arguments = signature.bind(*args, **kwargs).arguments
        latents = arguments["img"]
        grid = layout.grid(arguments["img_ids"]) if stack.needs_grid else None
        timestep = TIMESTEP_RANGE * arguments["timesteps"]
        if session.begins_run(timestep):
            session.branches_in_batch = _count_branches(session.config, latents)
        with session.model_call(latents, timestep):
            out = stack.run(session, latents.shape[0], grid, lambda: original(*args, **kwargs))
            return session.correct(out)

    return call


def _count_branches(config: CacheConfig, latents: Tensor) -> int:
    """Return how many guidance branches a batch holds: at the first step they have the same latents."""
    if config.decision == "batch" or latents.shape[0] % 3:
        return 1
    first, *others = latents.chunk(3)
    return 3 if all(torch.equal(first, other) for other in others) else 1


class _Layout:
    """Reads the token grid from the coordinates of the tokens, once for all calls that pass the same tensor."""

    def __init__(self) -> None:
        self._ids: Tensor | None = None
        self._grid = Grid(0, 0, 0)

    def grid(self, ids: Tensor) -> Grid:
        """Return the grid of tokens with coordinates [R, N, 3] along time, height and width; waits for the device."""
        if ids is not self._ids:
            self._ids, self._grid = ids, Grid(*(int(size) + 1 for size in ids[0].amax(0).tolist()))
        return self._grid
