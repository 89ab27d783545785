"""Host of the transformers of diffusers: checks that a cache fits the model, then attaches one.

What differs between models is in `diffusers_models`. A hook in diffusers' own registry spans each call of the model: by
it a pipeline's ``cache_context`` names the guidance branch, and a pipeline that ends says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.hooks._common import _ALL_TRANSFORMER_BLOCK_IDENTIFIERS
from diffusers.hooks._helpers import TransformerBlockRegistry
from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager
from torch import Tensor, nn

from opensora_adacache.adapters.block_calls import BlockSignature
from opensora_adacache.adapters.block_stack import BlockStack, StackBlock
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers.models import MODELS, DiffusersModel, generic_model, unknown_grid
from opensora_adacache.adapters.patches import Patches
from opensora_adacache.adapters.probes import warn_of_misfit, with_middle_layer
from opensora_adacache.caching.contract import CacheConfig

HOOK = "opensora_adacache"
CACHE_DIT_MARK = "_is_cached"
"""Attribute that the cache-dit package leaves on a transformer whose cache it enabled."""
TIMESTEP_RANGE = 1000


def attach_diffusers(model: nn.Module, config: CacheConfig, num_sampling_steps: int) -> BranchedSession:
    """Attach a session to a transformer of diffusers; see `opensora_adacache.adapters.apply_cache`.

    By default the probe is the self-attention (in Latte the temporal one) of layer depth // 2 − 1, after its gate; in
    blocks that do not show it, and in models known by their blocks only, the residual of that whole block.
    """
    known = describe(model)
    _check_model(model)
    layers = _layers(model, known)
    _check_config(model, known, config, num_sampling_steps, layers)
    blocks = _stack_blocks(known, layers, config)
    if config.num_first_blocks >= len(blocks):
        raise ValueError(f"this policy runs {config.num_first_blocks} block on every step, and the model has no more")
    warn_of_misfit(config, num_sampling_steps, type(model).__name__)

    session = BranchedSession(config, num_sampling_steps)
    stack = BlockStack(blocks, known, config.num_first_blocks, config.reads_frames)
    patches = Patches()
    stack.wrap(patches)
    patches.set(model, "_cache_config", config)  # makes the model's own enable_cache refuse
    registry = HookRegistry.check_if_exists_or_initialize(model)
    had_forward = "forward" in model.__dict__
    registry.register_hook(_ModelCall(session, stack, model, known), HOOK)

    def detach() -> None:
        registry.remove_hook(HOOK, recurse=False)
        if not had_forward:
            del model.__dict__["forward"]
        patches.restore()

    session.on_detach = detach
    return session


def describe(model: nn.Module) -> DiffusersModel:
    """Return what is known of a model: by its class, else by its blocks if diffusers has them registered.

    Raises:
        ValueError: neither.
    """
    for base in type(model).__mro__:
        if base.__name__ in MODELS:
            return MODELS[base.__name__]
    stacks = [
        name
        for name, child in model.named_children()
        if name in _ALL_TRANSFORMER_BLOCK_IDENTIFIERS and isinstance(child, nn.ModuleList) and len(child)
    ]
    unknown = {type(block).__name__ for name in stacks for block in getattr(model, name) if not _registered(block)}
    missing = {"hidden_states", "timestep"} - set(inspect.signature(type(model).forward).parameters)
    why = None
    if missing:
        why = f"its forward takes no {' and no '.join(sorted(missing))}"
    elif unknown:
        why = f"its blocks {', '.join(sorted(unknown))} are not registered in diffusers"
    elif not stacks:
        why = "it has no list of blocks under a usual name"
    if why:
        raise ValueError(f"apply_cache does not know {type(model).__name__}, and {why}")
    return generic_model(tuple(stacks))


class _ModelCall(ModelHook):
    """Spans each call of the model. Stateful, so that `cache_context` and the end of a pipeline reach it."""

    _is_stateful = True

    def __init__(self, session: BranchedSession, stack: BlockStack, model: nn.Module, known: DiffusersModel) -> None:
        super().__init__()
        self.session = session
        self.stack = stack
        self.known = known
        self.contexts = StateManager(BaseState)  # type: ignore[arg-type]  # only its context is used
        self._signature = inspect.signature(type(model).forward)

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Run the model on one step of the branch that the context names."""
        arguments = self._signature.bind(module, *args, **kwargs).arguments
        latents = arguments["hidden_states"]
        context = self.contexts._context
        if self.session.at_start:
            _check_other_caches(module)
        timestep = falling_timestep(arguments["timestep"], latents, self.known.rising_timestep)
        step_index = getattr(context, "step_index", None)
        with self.session.model_call(getattr(context, "name", ""), latents, timestep, step_index) as branch:
            grid = self.known.grid(module.config, arguments)  # type: ignore[arg-type]
            out = self.stack.run(branch, latents.shape[0], grid, lambda: self._forward(*args, **kwargs))
            if isinstance(out, tuple):
                return (branch.correct(out[0]), *out[1:])
            out.sample = branch.correct(out.sample)
            return out

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        assert self.fn_ref is not None and self.fn_ref.original_forward is not None  # set by the registry
        return self.fn_ref.original_forward(*args, **kwargs)

    def reset_state(self, module: nn.Module) -> nn.Module:
        """Take note that the pipeline ended: diffusers resets its stateful hooks there."""
        self.session.end_of_sampling()
        return module


def falling_timestep(timestep: Any, latents: Tensor, rises: bool) -> Tensor:
    """Return the timestep of a call as [R] or [1], falling; of timesteps for each token the largest."""
    t = torch.as_tensor(timestep)
    t = t[None] if t.ndim == 0 else t.flatten(1).amax(1) if t.ndim > 1 else t
    return TIMESTEP_RANGE - t if rises else t


def _registered(block: nn.Module) -> bool:
    try:
        TransformerBlockRegistry.get(type(block))
    except ValueError:
        return False
    return True


def _layers(model: nn.Module, known: DiffusersModel) -> list[list[tuple[str, nn.Module]]]:
    """Return the blocks in order of execution, grouped into layers: list name and block."""
    lists = [[(name, block) for block in getattr(model, name)] for name in known.stacks]
    if known.interleaved:
        return [list(layer) for layer in zip(*lists, strict=True)]
    return [[block] for blocks in lists for block in blocks]


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


def _check_model(model: nn.Module) -> None:
    """Raise ValueError where something on the model would not work together with a cache."""
    if HOOK in getattr(getattr(model, "_diffusers_hook", None), "hooks", {}):
        raise ValueError("this model has a cache attached already: detach that session first")
    if getattr(model, "is_cache_enabled", False):
        raise ValueError("this model has a cache of diffusers enabled: call its disable_cache() first")
    _check_other_caches(model)
    if model._compiled_call_impl is not None:
        raise ValueError(
            "this model is compiled as a whole, so that no step can skip its blocks: compile the blocks instead, with "
            "model.compile_repeated_blocks() or block.compile()"
        )
    if getattr(model, "_parallel_config", None) is not None:
        raise ValueError("this model is split over several devices, which this host does not support: load it without")


def _check_other_caches(model: nn.Module) -> None:
    """Raise ValueError where another cache has hooks on the model, ours aside."""
    if getattr(model, CACHE_DIT_MARK, False):
        raise ValueError("this model has a cache of cache-dit enabled: call cache_dit.disable_cache first")
    for module in model.modules():
        hooks: Mapping[str, ModelHook] = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        for name, hook in hooks.items():
            if hook._is_stateful and not isinstance(hook, _ModelCall):
                raise ValueError(f"this model has another cache attached (hook {name}): take it off first")


def _check_config(
    model: nn.Module, known: DiffusersModel, config: CacheConfig, num_sampling_steps: int, layers: list
) -> None:
    """Raise ValueError where a policy needs what the model does not show."""
    name = type(model).__name__
    config.check_run(num_sampling_steps, len(layers))
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
