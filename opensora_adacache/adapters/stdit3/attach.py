"""Adapter for STDiT3: where its residuals are and how a session wraps them.

Letters: R batch rows (videos × guidance branches), N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from opensora_adacache.adapters.patches import Patches, unless_aside
from opensora_adacache.adapters.probes import probed_layers, warn_of_misfit
from opensora_adacache.adapters.stdit3.prefix import attach_prefix
from opensora_adacache.adapters.stdit3.rows import rows_of_call
from opensora_adacache.adapters.stdit3.sites import attach_sites
from opensora_adacache.adapters.stdit3.split import team_of
from opensora_adacache.adapters.stdit3.view import stack_view
from opensora_adacache.caching.contract import CacheConfig, Probe
from opensora_adacache.caching.guidance.branches import Rows
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.caching.sites import SiteCacheConfig
from opensora_adacache.caching.team_check import check_team
from opensora_adacache.models.stdit3 import BlockInputs, STDiT3

_ARGUMENTS = ("y", "mask", "x_mask", "fps", "height", "width", "conditioning")
"""Parameters of `STDiT3.forward` after x and timestep."""


def attach_stdit3(model: STDiT3, config: CacheConfig, num_sampling_steps: int) -> CacheSession:
    """Attach a session to an STDiT3; see `opensora_adacache.adapters.apply_cache`.

    By default the probe is the temporal attention of layer depth // 2 − 1, which is the paper's 13 of 28.
    """
    config.check_run(num_sampling_steps, model.config.depth)
    if "forward_blocks" in vars(model):
        raise ValueError("this model has a cache attached already: detach that session first")
    check_team(config, team_of(model))
    probes = [] if config.probe is None else probe_sites(model, config.probe)
    outputs = output_sites(model, config.probe)
    warn_of_misfit(config, num_sampling_steps)
    session = CacheSession(config, num_sampling_steps)
    session.find_team = partial(team_of, model)
    patches = Patches()
    session.on_detach = patches.restore
    patches.wrap_model(model, partial(_call, session, model))
    if isinstance(config, SiteCacheConfig):
        attach_sites(session, model, config, patches)
        return session
    if config.granularity == "prefix":
        attach_prefix(session, model, patches)
        return session
    if config.granularity == "stack":
        patches.wrap(model, "forward_blocks", unless_aside(session, partial(_stack, session, model)))
        for block, site in outputs:
            patches.wrap_call(block, unless_aside(session, _probe(session, site)))
        for block, method, site in probes:
            patches.wrap(block, method, unless_aside(session, _probe(session, site)))
    else:
        reusing = _Flag()
        patches.wrap(model, "forward_blocks", unless_aside(session, partial(_blocks, session, model, reusing)))
        probed = {site for _, _, site in probes}
        for block, method, site in residual_sites(model):
            patches.wrap(block, method, unless_aside(session, _block_residual(session, reusing, site, site in probed)))
    return session


def residual_sites(model: STDiT3) -> list[tuple[nn.Module, str, str]]:
    """Return every residual of the stack in order of execution: its block, the method that computes it, its name."""
    sites: list[tuple[nn.Module, str, str]] = []
    for layer, pair in enumerate(zip(model.spatial_blocks, model.temporal_blocks, strict=True)):
        for block, axis in zip(pair, ("s", "t"), strict=True):
            sites.append((block, "attention_residual", f"{layer}.{axis}-attn"))
            sites.append((block, "cross_mlp_residual", f"{layer}.{axis}-ca-mlp"))
    return sites


def probe_sites(model: STDiT3, probe: Probe) -> list[tuple[nn.Module, str, str]]:
    """Return the residual sites of a probe in order of execution; by default the middle "t-attn"."""
    if probe.residual == "output":
        return []
    layers = probed_layers(probe, model.config.depth)
    kinds = ("s-ca-mlp", "t-ca-mlp") if probe.residual == "ca-mlp" else (probe.residual or "t-attn",)
    names = {f"{layer}.{kind}" for layer in layers for kind in kinds}
    return [site for site in residual_sites(model) if site[2] in names]


def output_sites(model: STDiT3, probe: Probe | None) -> list[tuple[nn.Module, str]]:
    """Return the blocks whose output a probe observes, in order of execution, with their names."""
    if probe is None or probe.residual != "output":
        return []
    return [
        (blocks[layer], f"{layer}.{axis}")
        for layer in probed_layers(probe, model.config.depth)
        for axis, blocks in (("s", model.spatial_blocks), ("t", model.temporal_blocks))
    ]


class _Flag:
    """Whether the blocks reuse, and for which rows."""

    on: bool = False
    rows: Tensor | None = None


def _call(session: CacheSession, model: STDiT3, original: Callable) -> Callable:
    def call(x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        def forward(rows: Rows) -> Tensor:
            if rows is None:
                return original(x, timestep, *args, **kwargs)
            more = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
            return original(**rows_of_call(model, {"x": x, "timestep": timestep, **more}, rows))

        with session.model_call(x, timestep):
            return session.run_model(forward)

    return call


def _select(inputs: BlockInputs, rows: Tensor | None) -> BlockInputs:
    return inputs if rows is None else inputs.rows(rows)


def _stack(session: CacheSession, model: STDiT3, original: Callable) -> Callable:
    """Wrap the stack: all blocks skip together, so a reused step is x plus the residual of the whole stack."""
    num_first = session.config.num_first_blocks

    def forward_blocks(x: Tensor, inputs: BlockInputs) -> Tensor:
        entry = x
        for block in model.blocks()[:num_first]:
            x = block(x, inputs)

        def compute(x: Tensor, rows: Tensor | None) -> Tensor:
            out = original(x, _select(inputs, rows), num_first)
            session.keep_residual(out, x, rows)
            return out

        def reuse(x: Tensor, rows: Tensor | None) -> Tensor:
            return session.add_residual(x, rows)

        first_residual = x - entry if num_first else None
        return session.run_stack(stack_view(session, model, x, inputs, first_residual), compute, reuse)

    return forward_blocks


def _probe(session: CacheSession, site: str) -> Callable:
    def wrapper(original: Callable) -> Callable:
        def residual(x: Tensor, inputs: BlockInputs) -> Tensor:
            out = original(x, inputs)
            session.observe(site, out, inputs.num_clip_frames)
            return out

        return residual

    return wrapper


def _blocks(session: CacheSession, model: STDiT3, reusing: _Flag, original: Callable) -> Callable:
    """Wrap the blocks as the reference implementation does: on a reused step each adds its two stored residuals."""

    def forward_blocks(x: Tensor, inputs: BlockInputs) -> Tensor:
        def walk(x: Tensor, rows: Tensor | None, reuse: bool) -> Tensor:
            reusing.on, reusing.rows = reuse, rows
            return original(x, _select(inputs, rows))

        return session.run_stack(
            stack_view(session, model, x, inputs),
            lambda x, rows: walk(x, rows, False),
            lambda x, rows: walk(x, rows, True),
        )

    return forward_blocks


def _block_residual(session: CacheSession, reusing: _Flag, site: str, probed: bool) -> Callable:
    def wrapper(original: Callable) -> Callable:
        def residual(x: Tensor, inputs: BlockInputs) -> Tensor:
            if reusing.on:
                return session.store.get(site, reusing.rows)
            out = original(x, inputs)
            if probed:
                session.observe(site, out, inputs.num_clip_frames)
            else:
                session.store.put(site, out, reusing.rows)
            return out

        return residual

    return wrapper
