"""Adapter for STDiT3 for policies that keep the output of each block, one of which stands for all blocks up to it.

Letters: R batch rows (videos × guidance branches), N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from opensora_adacache.adapters.patches import Patches, unless_aside
from opensora_adacache.adapters.stdit3.view import stack_view
from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.prefix import PrefixPolicy
from opensora_adacache.caching.session import CacheSession
from opensora_adacache.models.stdit3 import BlockInputs, STDiT3


def attach_prefix(session: CacheSession, model: STDiT3, patches: Patches) -> None:
    """Let a session begin each step after the blocks that its policy reuses."""
    sites = tuple(Site(layer, axis, "block") for layer in range(model.config.depth) for axis in "st")
    patches.wrap(model, "forward_blocks", unless_aside(session, partial(_walk, session, model, sites)))


def _walk(session: CacheSession, model: STDiT3, sites: tuple[Site, ...], original: Callable) -> Callable:
    def forward_blocks(x: Tensor, inputs: BlockInputs) -> Tensor:
        policy = cast(PrefixPolicy, session.policy)
        view = stack_view(session, model, x, inputs, sites=sites)
        split = session.decide(view)

        def walk(start: int, rows: Tensor | None) -> Tensor:
            x, here = (view.x, inputs) if rows is None else (view.x[rows], inputs.rows(rows))
            if start:
                x = session.store.get(str(sites[start - 1]), rows)
            for block in range(start, len(sites)):
                x = original(x, here, block, block + 1)
                policy.observe_block(view, block, x, rows)
            return x

        (start, rows), *others = session.parts(policy.starts)
        out = walk(start, rows)
        if rows is not None:
            whole = torch.empty_like(x)
            whole[rows] = out
            for start, rows in others:
                whole[rows] = walk(start, rows)
            out = whole
        if split.computes:
            session.observe_output(view, out if split.rows is None else out[split.rows], split.rows)
        return out

    return forward_blocks
