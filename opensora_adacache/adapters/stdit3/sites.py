"""Adapter for STDiT3 for policies that reuse single residuals, or ranges of layers, instead of the whole stack.

Letters: R batch rows (videos × guidance branches), N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from opensora_adacache.adapters.patches import Patches, unless_aside
from opensora_adacache.adapters.stdit3.view import stack_view
from opensora_adacache.caching.contract import Site, StackView
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.caching.sites import RangeCacheConfig, SiteCacheConfig, SitePolicy
from opensora_adacache.models.stdit3 import BlockInputs, STDiT3, STDiT3Block

METHODS = {"attn": "attention_residual", "cross": "cross_residual", "mlp": "mlp_residual"}
"""Kind of a site → the method of its block that computes the residual."""


def attach_sites(session: CacheSession, model: STDiT3, config: SiteCacheConfig, patches: Patches) -> None:
    """Let a session reuse the sites, or the ranges of layers, of a model."""
    sites = block_sites(model)
    view = partial(stack_view, session, model, sites=tuple(site for _, site in sites))
    if isinstance(config, RangeCacheConfig):
        patches.wrap(model, "forward_blocks", unless_aside(session, partial(_ranges, session, config, view)))
        return
    patches.wrap(model, "forward_blocks", unless_aside(session, partial(_walk, session, view)))
    for block, site in sites:
        if config.stores(site):
            gated = config.before_gate and site.kind == "attn"
            make = _before_gate(session, site, block) if gated else _residual(session, site)
            patches.wrap(block, METHODS[site.kind], unless_aside(session, make))


def block_sites(model: STDiT3) -> list[tuple[nn.Module, Site]]:
    """Return every residual of the stack in order of execution, with its block."""
    pairs = enumerate(zip(model.spatial_blocks, model.temporal_blocks, strict=True))
    blocks = [(layer, axis, block) for layer, pair in pairs for axis, block in zip("st", pair, strict=True)]
    return [(block, Site(layer, axis, kind)) for layer, axis, block in blocks for kind in METHODS]


def _walk(session: CacheSession, view: Callable[[Tensor, BlockInputs], StackView], original: Callable) -> Callable:
    """Run through the blocks on every step; each site looks up whether it computes."""

    def forward_blocks(x: Tensor, inputs: BlockInputs) -> Tensor:
        def walk(x: Tensor, rows: Tensor | None) -> Tensor:
            return original(x, inputs)  # a fixed schedule never splits the rows

        return session.run_stack(view(x, inputs), walk, walk)

    return forward_blocks


def _residual(session: CacheSession, site: Site) -> Callable:
    return lambda original: lambda x, inputs: _stored_or(session, site, lambda: original(x, inputs))


def _before_gate(session: CacheSession, site: Site, block: nn.Module) -> Callable:
    """Wrap an attention whose output is stored before its gate."""
    block = cast(STDiT3Block, block)

    def wrapper(original: Callable) -> Callable:
        def residual(x: Tensor, inputs: BlockInputs) -> Tensor:
            output = _stored_or(session, site, lambda: block.attention_output(x, inputs))
            return block.gate_attention(output, inputs)

        return residual

    return wrapper


def _stored_or(session: CacheSession, site: Site, compute: Callable[[], Tensor]) -> Tensor:
    """Return what is expected of a site that reuses, or compute and store it."""
    policy, store, name = cast(SitePolicy, session.policy), session.store, str(site)
    before = f"{name} before"
    if site in policy.reused:
        last = store.get(name)
        return torch.lerp(store.get(before), last, 1 + policy.trend) if before in store and policy.trend else last
    out = compute()
    if policy.config.residuals_per_site > 1 and name in store:
        store.put(before, store.get(name))
    store.put(name, out)
    return out


def _ranges(
    session: CacheSession,
    config: RangeCacheConfig,
    view: Callable[[Tensor, BlockInputs], StackView],
    original: Callable,
) -> Callable:
    """Run the layers before the range of the step's phase, the range or its stored offset, and the layers after."""

    def forward_blocks(x: Tensor, inputs: BlockInputs) -> Tensor:
        def walk(x: Tensor, rows: Tensor | None) -> Tensor:
            layers = config.layers_at(session.step)
            if layers is None:
                return original(x, inputs)
            start, stop = 2 * layers[0], 2 * (layers[1] + 1)  # a spatial and a temporal block per layer
            entry = original(x, inputs, 0, start)
            if config.reuses(session.step) and not session.complete:
                x = entry + session.store.get(_OFFSET)
            else:
                x = original(entry, inputs, start, stop)
                session.store.put_difference(_OFFSET, x, entry)
            return original(x, inputs, stop)

        return session.run_stack(view(x, inputs), walk, walk)

    return forward_blocks


_OFFSET = "offset of a range"
