"""Adapter for the video transformers of ComfyUI: its blocks run as those of diffusers do (`block_stack`).

The cache is attached for one sampling run. This project includes neither ComfyUI's source nor weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from opensora_adacache.adapters.block_calls import BlockSignature
from opensora_adacache.adapters.block_stack import BlockStack, StackBlock
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.comfyui.models import ComfyModel, describe
from opensora_adacache.adapters.comfyui.sampler_calls import SamplerCalls
from opensora_adacache.adapters.few_steps import warn_of_few_steps
from opensora_adacache.adapters.patches import CALL, Patches
from opensora_adacache.adapters.probes import probed_layers
from opensora_adacache.caching.contract import CacheConfig

TIMESTEP_RANGE = 1000


def attach_comfyui(model: nn.Module, config: CacheConfig, calls: SamplerCalls) -> BranchedSession:
    """Attach a session to the transformer of a ComfyUI model for one sampling run.

    The probe is in layer depth // 2 − 1: the attention where the block has a module that reads its result, else the
    residual of the whole block. All rows of a call decide together. The timestep is 1000 times the noise level.

    Args:
        model: the ``diffusion_model`` of a ComfyUI model.
        config: settings of a policy.
        calls: names steps and branches; the run has as many steps as it caches.

    Raises:
        ValueError: the class is not known, the settings do not fit, or something else has changed the model.
    """
    known, num_steps = describe(model), len(calls.steps)
    blocks = _blocks(model, known)
    _check(model, blocks, config)
    config.check_run(num_steps, len(blocks))
    warn_of_few_steps(config, num_steps)
    layers = probed_layers(config.probe, len(blocks))
    stack_blocks = [
        StackBlock(
            module=block,
            stack=stack,
            signature=BlockSignature(type(block), known.block(stack)),
            site=f"{number}.{stack}" if number in layers else None,
            after=known.adapter.after_attention.get(stack),
        )
        for number, (stack, block) in enumerate(blocks)
    ]
    between = [module for name in known.adapter.between for module in getattr(model, name)]
    stack = BlockStack(
        stack_blocks,
        known.adapter,
        config.num_first_blocks,
        config.reads_frames,
        lambda: [block for _, block in _blocks(model, known)],
        between,
    )
    session = BranchedSession(config, num_steps)
    patches = Patches()
    stack.wrap(patches)
    patches.wrap_model(model, partial(_call, session, stack, model, calls))
    session.on_detach = patches.restore
    return session


def _blocks(model: nn.Module, known: ComfyModel) -> list[tuple[str, nn.Module]]:
    """Return the blocks in order of execution, with the name of their list."""
    return [(stack, block) for stack in known.adapter.stacks for block in getattr(model, stack)]


def _check(model: nn.Module, blocks: list[tuple[str, nn.Module]], config: CacheConfig) -> None:
    """Raise ValueError if the model is occupied, or cannot provide what the settings need."""
    name = type(config).__name__.removesuffix("Config")
    if model.__dict__.get(CALL) is not None:
        raise ValueError("this model has a cache attached already, or is compiled: use one of them")
    if any(hasattr(block, "_orig_mod") for _, block in blocks):
        raise ValueError("the blocks of this model are compiled, which was not tried with the cache: use one of them")
    if config.granularity != "stack" or config.reads_frames or config.reads_modulated_input:
        raise ValueError(f"{name} reads more of a model than its blocks' tokens, which is all that is known in ComfyUI")
    if config.probe is not None and config.probe.residual is not None:
        raise ValueError("the attention of ComfyUI's models is over space and time at once: leave cache_res out")


def _call(
    session: BranchedSession, stack: BlockStack, model: nn.Module, calls: SamplerCalls, original: Callable
) -> Callable:
    """Run each call of the model as a step of its branch, or as it is."""
    signature = inspect.signature(type(model).forward)

    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(model, *args, **kwargs).arguments
        options, latents = arguments["transformer_options"], arguments["x"]
        name = calls.branch_of(options)
        if name is None:
            return stack.run_aside(lambda: original(*args, **kwargs))
        with session.model_call(name, latents, TIMESTEP_RANGE * options["sigmas"][:1]) as branch:
            out = stack.run(branch, latents.shape[0], None, lambda: original(*args, **kwargs))
            return branch.correct(out)

    return call
