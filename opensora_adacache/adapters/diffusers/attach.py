"""Adapter for diffusers transformers: checks that a cache fits the model, then attaches it.

`models` describes how the models differ. A wrapper outside of all hooks spans each call of the model. A listener in
diffusers' registry receives what a pipeline tells the caches of a model (the guidance branch and its end).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from opensora_adacache.adapters.block_calls import BlockSignature
from opensora_adacache.adapters.block_stack import BlockStack, StackBlock
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers._compat import (
    CACHE_CONFIG,
    CacheMark,
    Listener,
    has_exclusive_cache,
    hooks_of_caches,
    is_parallel,
    token_group,
)
from opensora_adacache.adapters.diffusers.describe import checked, describe
from opensora_adacache.adapters.diffusers.outputs import ReturnedForm, batched, picture_of, rows_of_call
from opensora_adacache.adapters.few_steps import warn_of_few_steps
from opensora_adacache.adapters.patches import Patches
from opensora_adacache.adapters.probes import probed_layers, warn_of_misfit
from opensora_adacache.adapters.transformer_adapter import Grid, TransformerAdapter
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.guidance.branches import Rows
from opensora_adacache.caching.guidance.unconditional import PLAIN
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.caching.team import Team
from opensora_adacache.caching.team_check import check_team

HOOK = "opensora_adacache"
CACHE_DIT_MARK = "_is_cached"
"""Attribute that the cache-dit package sets on a transformer when it enables its cache."""
TIMESTEP_RANGE = 1000


def attach_diffusers(
    model: nn.Module,
    config: CacheConfig,
    num_sampling_steps: int | Callable[[], int],
    adapter: TransformerAdapter | None = None,
) -> BranchedSession:
    """Attach a session to a diffusers transformer; see `opensora_adacache.adapters.apply_cache`.

    By default the probe is the self-attention (in Latte the temporal one) of layer depth // 2 − 1, after its gate. In
    blocks that do not expose it, and in models of which only the blocks are known, it is the residual of that whole
    block. `adapter` describes a model that diffusers does not have.
    """
    known = describe(model) if adapter is None else checked(model, adapter)
    _check_model(model, known)
    layers = _layers(model, known)
    _check_config(model, known, config, layers)
    warned: list[int] = []

    def check_run(settings: CacheConfig, number: int) -> None:
        settings.check_run(number, len(layers))
        warn_of_misfit(settings, number, type(model).__name__)
        if number not in warned:
            warned.append(number)
            warn_of_few_steps(settings, number)

    blocks = _stack_blocks(model, known, layers, config)
    check_team(config, team_of(model, known))
    session = BranchedSession(config, num_sampling_steps, check_run)
    session.find_team = partial(team_of, model, known)
    if not callable(num_sampling_steps):
        check_run(config, num_sampling_steps)
    find_blocks, between = partial(_blocks, model, known), _modules(model, known.between)
    stack = BlockStack(blocks, known, config.num_first_blocks, config.reads_frames, find_blocks, between)
    listener = Listener(HOOK, session.end_of_sampling)
    patches = Patches()
    stack.wrap(patches)
    patches.set(model, CACHE_CONFIG, CacheMark())  # makes the model's own enable_cache refuse
    patches.wrap_model(model, partial(_call, session, stack, model, known, listener))
    leave = listener.attach(model)

    def detach() -> None:
        leave()
        patches.restore()

    session.on_detach = detach
    return session


def _call(
    session: BranchedSession,
    stack: BlockStack,
    model: nn.Module,
    known: TransformerAdapter,
    listener: Listener,
    original: Callable,
) -> Callable:
    """Run each call of the model as one step of the branch that the pipeline names."""
    signature = inspect.signature(type(model).forward)
    form = ReturnedForm(known.is_packed)

    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(model, *args, **kwargs).arguments
        if not known.is_step(arguments):
            return stack.run_aside(lambda: original(*args, **kwargs))
        if torch.is_grad_enabled() and getattr(model, "gradient_checkpointing", False):
            raise ValueError(
                "gradient checkpointing runs the blocks again in the backward pass, where no cache knows their step: "
                "sample in torch.no_grad(), or call disable_gradient_checkpointing()"
            )
        latents = batched(arguments[known.latents], known.is_packed)
        if arguments.get("enable_temporal_attentions") is False:
            raise ValueError("this call runs the model without its temporal blocks: detach the cache to make an image")
        if session.at_start:
            _check_other_caches(model)
        timestep = falling_timestep(_timestep(arguments, known), known)
        with session.model_call(listener.branch, latents, timestep, listener.step_index) as branch:
            grid = _grid(model, known, arguments)
            run = _Rows(original, args, kwargs, arguments, stack, branch, grid, known, form, len(latents))
            picture = PLAIN if branch.config.guidance_reuse is None else picture_of(latents, grid, known)
            output = branch.run_model(run, picture)
            return run.returned if output is run.output else form.write(output, run.returned)

    return call


@dataclass
class _Rows:
    """Runs rows of one call of the model.

    Attributes:
        returned: what the model returned last; None if it did not run.
        output: the output for the video in it.
    """

    original: Callable
    args: tuple
    kwargs: dict[str, Any]
    arguments: Mapping[str, Any]
    stack: BlockStack
    branch: CacheSession
    grid: Grid | None
    known: TransformerAdapter
    form: ReturnedForm
    num_rows: int
    returned: Any = None
    output: Tensor | None = None

    def __call__(self, rows: Rows) -> Tensor:
        run, number = partial(self.original, *self.args, **self.kwargs), self.num_rows
        if rows is not None:
            run = partial(self.original, **rows_of_call(self.arguments, rows, number, self.known))
            number = len(range(number)[rows]) if isinstance(rows, slice) else len(rows)
        returned = (
            self.stack.run_aside(run) if self.branch.is_aside else self.stack.run(self.branch, number, self.grid, run)
        )
        if self.branch.config.guidance_reuse is not None and isinstance(returned, tuple) and len(returned) > 1:
            raise ValueError(
                "guidance_reuse rebuilds the output for the video only, and this model returns more: leave "
                "guidance_reuse out"
            )
        self.returned, self.output = returned, self.form.read(returned)
        return self.output


def _timestep(arguments: Mapping[str, Any], known: TransformerAdapter) -> Any:
    """Return the timestep of a call: of its video, or of another stream if no frame of the video is noisy.

    Raises:
        ValueError: the call gives none.
    """
    for name in (known.timestep, *known.other_timesteps):
        given = arguments.get(name)
        if given is not None and torch.as_tensor(given).numel():
            return given
    raise ValueError(f"this call gives no {known.timestep}: a cache needs it to tell one step from the next")


def falling_timestep(timestep: Any, known: TransformerAdapter) -> Tensor:
    """Return the timestep of a call as [R] or [1], from 1000 for noise to 0; where tokens differ, the noisiest one."""
    t = torch.as_tensor(timestep)
    if not known.timestep_by_row or t.ndim == 0:
        t = t.reshape(1, -1)
    if t.ndim > 1:
        t = t.flatten(1)
        t = t.amin(1) if known.rising_timestep else t.amax(1)
    if known.timestep_range != TIMESTEP_RANGE:
        t = t * (TIMESTEP_RANGE / known.timestep_range)
    return TIMESTEP_RANGE - t if known.rising_timestep else t


def _grid(model: nn.Module, known: TransformerAdapter, arguments: Mapping[str, Any]) -> Grid | None:
    """Return the token grid of a call, if it is known."""
    sizes = known.grid(getattr(model, "config", None), arguments) if known.grid else None
    return None if sizes is None else Grid(*sizes)


def _layers(model: nn.Module, known: TransformerAdapter) -> list[list[tuple[str, nn.Module]]]:
    """Return the blocks in order of execution, grouped into layers, with the name of their list."""
    lists = [[(name, block) for block in getattr(model, name)] for name in known.stacks]
    if known.interleaved:
        return [list(layer) for layer in zip(*lists, strict=True)]
    return [[block] for blocks in lists for block in blocks]


def _blocks(model: nn.Module, known: TransformerAdapter) -> list[nn.Module]:
    """Return the blocks in order of execution, those that only prepare first."""
    return _modules(model, known.before) + [block for layer in _layers(model, known) for _, block in layer]


def _modules(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Return the modules of some module lists."""
    return [module for name in names for module in getattr(model, name)]


def _stack_blocks(
    model: nn.Module, known: TransformerAdapter, layers: list[list[tuple[str, nn.Module]]], config: CacheConfig
) -> list[StackBlock]:
    kind = None if config.probe is None else config.probe.residual
    stacks = known.stacks
    if known.interleaved and kind != "output":
        stacks = known.stacks[:1] if kind == "s-attn" else known.stacks[1:]
    sites = dict.fromkeys(probed_layers(config.probe, len(layers)), stacks)
    preparing = [
        StackBlock(block, name, BlockSignature(type(block), known), prepares=True)
        for name in known.before
        for block in getattr(model, name)
    ]
    return preparing + [
        StackBlock(
            module=block,
            stack=stack,
            signature=BlockSignature(type(block), known),
            site=f"{number}.{stack}" if stack in sites.get(number, ()) else None,
            after=known.after_attention.get(stack),
            shows_output=kind == "output",
        )
        for number, layer in enumerate(layers)
        for stack, block in layer
    ]


def _how_to_compile(model: nn.Module, known: TransformerAdapter) -> str:
    """Return the code that compiles the blocks of a model; not every class has a `compile_repeated_blocks`."""
    if getattr(model, "_repeated_blocks", None):
        return "model.compile_repeated_blocks()"
    lists = " + ".join(f"[*model.{name}]" for name in known.stacks) if known.stacks[1:] else f"model.{known.stacks[0]}"
    return f"'for block in {lists}: block.compile()'"


def _check_model(model: nn.Module, known: TransformerAdapter) -> None:
    """Raise ValueError if something on the model is incompatible with a cache."""
    missing = {known.latents, known.timestep} - set(inspect.signature(type(model).forward).parameters)
    if missing:
        raise ValueError(
            f"the forward of {type(model).__name__} was replaced by one that does not name its {sorted(missing)[0]}: "
            "wrap it with functools.wraps(the original), or replace the forward of the model, not of its class"
        )
    if isinstance(getattr(model, CACHE_CONFIG, None), CacheMark):
        raise ValueError("this model has a cache attached already: detach that session first")
    if has_exclusive_cache(model):
        raise ValueError("this model has a cache of diffusers enabled: call its disable_cache() first")
    _check_other_caches(model)
    if model._compiled_call_impl is not None:
        raise ValueError(
            "this model is compiled as a whole, so that no step can skip its blocks: compile the blocks instead, with "
            f"{_how_to_compile(model, known)}"
        )
    team_of(model, known)


def team_of(model: nn.Module, known: TransformerAdapter) -> Team:
    """Return the processes between which diffusers splits the tokens of a model; this process alone if it does not.

    Raises:
        ValueError: the model is split in a way that was not tried with a cache.
    """
    if not is_parallel(model):
        return Team()
    group = token_group(model)
    if group is None or not known.splits_tokens:
        raise ValueError(
            f"{type(model).__name__} is split over several devices in a way that is not supported with a cache: "
            "context parallelism of Wan and LTXVideo is, with ulysses_degree and ring_degree; or do not split it"
        )
    from opensora_adacache.parallel.team import TokenTeam

    return TokenTeam(group, group)


def _check_other_caches(model: nn.Module) -> None:
    """Raise ValueError if another cache has hooks on the model."""
    if getattr(model, CACHE_DIT_MARK, False):
        raise ValueError("this model has a cache of cache-dit enabled: call cache_dit.disable_cache first")
    for name in hooks_of_caches(model):
        raise ValueError(f"this model has another cache attached (hook {name}): take it off first")


def _check_config(model: nn.Module, known: TransformerAdapter, config: CacheConfig, layers: list) -> None:
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
    if config.guidance_reuse is not None:
        _check_guidance(model, known)
    if config.reads_modulated_input and known.attention is None:
        raise ValueError(f"{policy} reads the first block's modulated input, which is unknown for {name}")
    if config.reads_noise_level and not known.rectified_flow:
        raise ValueError(f"{policy} reads the noise level from the timestep, which {name} does not give")
    if config.reads_frames and known.grid is None:
        raise ValueError(
            f"{policy} needs the frame layout, which is unknown for {name}: set moreg=None, or choose a policy that "
            "does not read frames"
        )
    if config.probe is not None and config.probe.residual not in (None, "output"):
        if not known.interleaved:
            raise ValueError(f"the attention of {name} is over space and time at once: leave cache_res out")
        if config.probe.residual == "ca-mlp":
            raise ValueError(f"on {name} cache_res must be 't-attn' or 's-attn', got 'ca-mlp'")


def _check_guidance(model: nn.Module, known: TransformerAdapter) -> None:
    """Raise ValueError if a model has no unconditional rows to leave out, or cannot run without them."""
    name = type(model).__name__
    if getattr(model.config, "guidance_embeds", False):
        raise ValueError(
            f"this {name} is distilled to take the guidance scale as an input and computes no unconditional branch: "
            "leave guidance_reuse out"
        )
    if known.whole_batch:
        raise ValueError(
            f"{name} gets {known.whole_batch[0]}, which holds all rows of the batch, so that none can be left out: "
            "leave guidance_reuse out"
        )
