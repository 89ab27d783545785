"""Adapter for diffusers transformers: checks that a cache fits the model, then attaches it.

`models` describes how the models differ. A wrapper outside of all hooks spans each call of the model. A listener in
diffusers' registry receives what a pipeline tells the caches of a model (the guidance branch and its end).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from opensora_adacache.adapters.block_calls import BlockSignature
from opensora_adacache.adapters.block_stack import BlockStack, StackBlock
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers._compat import (
    BLOCK_LIST_NAMES,
    CACHE_CONFIG,
    CacheMark,
    Listener,
    block_metadata,
    hooks_of_caches,
    is_parallel,
)
from opensora_adacache.adapters.diffusers.models import MODELS, PARTS, DiffusersModel, generic_model, unknown_grid
from opensora_adacache.adapters.patches import Patches
from opensora_adacache.adapters.probes import warn_of_misfit, with_middle_layer
from opensora_adacache.caching.contract import CacheConfig

HOOK = "opensora_adacache"
CACHE_DIT_MARK = "_is_cached"
"""Attribute that the cache-dit package sets on a transformer when it enables its cache."""
TIMESTEP_RANGE = 1000


def attach_diffusers(
    model: nn.Module, config: CacheConfig, num_sampling_steps: int | Callable[[], int]
) -> BranchedSession:
    """Attach a session to a diffusers transformer; see `opensora_adacache.adapters.apply_cache`.

    By default the probe is the self-attention (in Latte the temporal one) of layer depth // 2 − 1, after its gate. In
    blocks that do not expose it, and in models of which only the blocks are known, it is the residual of that whole
    block.
    """
    known = describe(model)
    _check_model(model, known)
    layers = _layers(model, known)
    _check_config(model, known, config, layers)

    def check_run(number: int) -> None:
        settings = session.config  # those for this number of steps
        settings.check_run(number, len(layers))
        warn_of_misfit(settings, number, type(model).__name__)

    blocks = _stack_blocks(known, layers, config)
    if config.num_first_blocks >= len(blocks):
        raise ValueError(f"this policy runs {config.num_first_blocks} block on every step, and the model has no more")
    session = BranchedSession(config, num_sampling_steps, check_run)
    if not callable(num_sampling_steps):
        check_run(num_sampling_steps)
    stack = BlockStack(blocks, known, config.num_first_blocks, config.reads_frames, partial(_blocks, model, known))
    listener = Listener(HOOK, session.end_of_sampling)
    patches = Patches()
    stack.wrap(patches)
    patches.set(model, CACHE_CONFIG, CacheMark())  # makes the model's own enable_cache refuse
    patches.wrap_call(model, partial(_call, session, stack, model, known, listener))
    leave = listener.attach(model)

    def detach() -> None:
        leave()
        patches.restore()

    session.on_detach = detach
    return session


def describe(model: nn.Module) -> DiffusersModel:
    """Return the description of a model, by its class or else by its blocks if diffusers has registered them.

    Raises:
        ValueError: neither its class nor its blocks are known.
    """
    for base in type(model).__mro__:
        if base.__name__ in MODELS:
            return MODELS[base.__name__]
    stacks = [
        name
        for name, child in model.named_children()
        if name in BLOCK_LIST_NAMES and isinstance(child, nn.ModuleList) and len(child)
    ]
    unknown = {
        type(block).__name__ for name in stacks for block in getattr(model, name) if block_metadata(type(block)) is None
    }
    missing = {"hidden_states", "timestep"} - set(inspect.signature(type(model).forward).parameters)
    why = None
    if type(model).__name__ in PARTS:
        why = "it is a part of a UNet, not a whole model"
    elif missing:
        why = f"its forward takes no {' and no '.join(sorted(missing))}"
    elif unknown:
        why = f"its blocks {', '.join(sorted(unknown))} are not registered in diffusers"
    elif not stacks:
        why = "it has no list of blocks under a usual name"
    if why:
        raise ValueError(f"apply_cache does not know {type(model).__name__}, and {why}")
    return generic_model(tuple(stacks))


def _call(
    session: BranchedSession,
    stack: BlockStack,
    model: nn.Module,
    known: DiffusersModel,
    listener: Listener,
    original: Callable,
) -> Callable:
    """Run each call of the model as one step of the branch that the pipeline names."""
    signature = inspect.signature(type(model).forward)

    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(model, *args, **kwargs).arguments
        latents = arguments["hidden_states"]
        if arguments.get("timestep") is None:
            raise ValueError("this call gives no timestep: a cache needs it to tell one step from the next")
        if session.at_start:
            _check_other_caches(model)
        session.count_steps()
        timestep = falling_timestep(arguments["timestep"], latents, known.rising_timestep)
        with session.model_call(listener.branch, latents, timestep, listener.step_index) as branch:
            grid = known.grid(model.config, arguments)  # type: ignore[arg-type]
            out = stack.run(branch, latents.shape[0], grid, lambda: original(*args, **kwargs))
            if isinstance(out, Tensor):
                return branch.correct(out)
            if isinstance(out, tuple):
                return (branch.correct(out[0]), *out[1:])
            name = next(iter(out))  # "sample", but for a few
            out[name] = branch.correct(out[name])
            return out

    return call


def falling_timestep(timestep: Any, latents: Tensor, rises: bool) -> Tensor:
    """Return the timestep of a call as [R] or [1], decreasing over calls; with one per token, return the largest."""
    t = torch.as_tensor(timestep)
    t = t[None] if t.ndim == 0 else t.flatten(1).amax(1) if t.ndim > 1 else t
    return TIMESTEP_RANGE - t if rises else t


def _layers(model: nn.Module, known: DiffusersModel) -> list[list[tuple[str, nn.Module]]]:
    """Return the blocks in order of execution, grouped into layers, with the name of their list."""
    lists = [[(name, block) for block in getattr(model, name)] for name in known.stacks]
    if known.interleaved:
        return [list(layer) for layer in zip(*lists, strict=True)]
    return [[block] for blocks in lists for block in blocks]


def _blocks(model: nn.Module, known: DiffusersModel) -> list[nn.Module]:
    """Return the blocks in order of execution."""
    return [block for layer in _layers(model, known) for _, block in layer]


def _stack_blocks(
    known: DiffusersModel, layers: list[list[tuple[str, nn.Module]]], config: CacheConfig
) -> list[StackBlock]:
    sites: dict[int, list[str]] = {}
    if config.probe is not None:
        probed = known.stacks
        if known.interleaved:
            probed = known.stacks[:1] if config.probe.residual == "s-attn" else known.stacks[1:]
        sites = {layer: list(probed) for layer in with_middle_layer(config.probe, len(layers)).layers or ()}
    return [
        StackBlock(
            module=block,
            stack=stack,
            signature=BlockSignature(type(block)),
            site=f"{number}.{stack}" if stack in sites.get(number, ()) else None,
            after=known.after_attention.get(stack),
        )
        for number, layer in enumerate(layers)
        for stack, block in layer
    ]


def _how_to_compile(model: nn.Module, known: DiffusersModel) -> str:
    """Return the code that compiles the blocks of a model; not every class has a `compile_repeated_blocks`."""
    if getattr(model, "_repeated_blocks", None):
        return "model.compile_repeated_blocks()"
    lists = " + ".join(f"[*model.{name}]" for name in known.stacks) if known.stacks[1:] else f"model.{known.stacks[0]}"
    return f"'for block in {lists}: block.compile()'"


def _check_model(model: nn.Module, known: DiffusersModel) -> None:
    """Raise ValueError if something on the model is incompatible with a cache."""
    if isinstance(getattr(model, CACHE_CONFIG, None), CacheMark):
        raise ValueError("this model has a cache attached already: detach that session first")
    if getattr(model, "is_cache_enabled", False):
        raise ValueError("this model has a cache of diffusers enabled: call its disable_cache() first")
    _check_other_caches(model)
    if model._compiled_call_impl is not None:
        raise ValueError(
            "this model is compiled as a whole, so that no step can skip its blocks: compile the blocks instead, with "
            f"{_how_to_compile(model, known)}"
        )
    if is_parallel(model):
        raise ValueError(
            "this model is split over several devices, which is not supported with a cache: load it without"
        )


def _check_other_caches(model: nn.Module) -> None:
    """Raise ValueError if another cache has hooks on the model."""
    if getattr(model, CACHE_DIT_MARK, False):
        raise ValueError("this model has a cache of cache-dit enabled: call cache_dit.disable_cache first")
    for name in hooks_of_caches(model):
        raise ValueError(f"this model has another cache attached (hook {name}): take it off first")


def _check_config(model: nn.Module, known: DiffusersModel, config: CacheConfig, layers: list) -> None:
    """Raise ValueError if a policy needs something that the model does not provide."""
    name = type(model).__name__
    for block in (block for layer in layers for _, block in layer):
        if hasattr(block, "_orig_mod"):
            raise ValueError(
                "a block was replaced by torch.compile(block): use block.compile(), which keeps the module"
            )
    if config.granularity != "stack":
        raise ValueError(f"on {name} only granularity='stack' is possible, got {config.granularity!r}")
    policy = type(config).__name__
    if config.reads_modulated_input and known.attention is None:
        raise ValueError(f"{policy} reads the first block's modulated input, which is unknown for {name}")
    if config.reads_noise_level and not known.rectified_flow:
        raise ValueError(f"{policy} reads the noise level from the timestep, which {name} does not give")
    if config.reads_frames and known.grid is unknown_grid:
        raise ValueError(
            f"{policy} needs the frame layout, which is unknown for {name}: set moreg=None, or choose a policy that "
            "does not read frames"
        )
    if config.probe is not None and config.probe.residual is not None:
        if not known.interleaved:
            raise ValueError(f"the attention of {name} is over space and time at once: leave cache_res out")
        if config.probe.residual == "ca-mlp":
            raise ValueError(f"on {name} cache_res must be 't-attn' or 's-attn', got 'ca-mlp'")
