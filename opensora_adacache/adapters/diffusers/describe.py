"""Finds the adapter of a diffusers transformer, and checks one that a user gives."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from torch import nn

from opensora_adacache.adapters.bases import base_among
from opensora_adacache.adapters.diffusers._compat import BLOCK_LIST_NAMES, block_metadata
from opensora_adacache.adapters.diffusers.models import MODELS, PARTS, UNFIT, generic_adapter
from opensora_adacache.adapters.transformer_adapter import TransformerAdapter


def describe(model: nn.Module) -> TransformerAdapter:
    """Return the adapter of a model, by its class or else by its blocks if diffusers has registered them.

    Raises:
        ValueError: neither its class nor its blocks are known, or this model of a known class does not fit.
    """
    name = type(model).__name__
    if (known := base_among(model, MODELS)) is not None:
        why = UNFIT[known](model.config) if known in UNFIT else None
        if why:
            raise ValueError(f"apply_cache cannot cache this {name}: {why}")
        return MODELS[known]
    stacks = [
        name
        for name, child in model.named_children()
        if name in BLOCK_LIST_NAMES and isinstance(child, nn.ModuleList) and len(child)
    ]
    blocks = {type(block) for stack in stacks for block in getattr(model, stack)}
    unknown = sorted(block.__name__ for block in blocks if block_metadata(block) is None)
    missing = {"hidden_states", "timestep"} - set(inspect.signature(type(model).forward).parameters)
    if base_among(model, PARTS):
        raise ValueError(f"apply_cache does not know {name}, and it is a part of a UNet, not a whole model")
    why = None
    if missing:
        why = f"its forward takes no {' and no '.join(sorted(missing))}"
    elif unknown:
        why = f"its blocks {', '.join(unknown)} are not registered in diffusers"
    elif not stacks:
        why = "it has no list of blocks under a usual name"
    if why:
        raise ValueError(
            f"apply_cache does not know {name}, and {why}: describe it with adapter=TransformerAdapter(…), as "
            "docs/guide/adapters.md shows"
        )
    return generic_adapter(tuple(stacks))


def checked(model: nn.Module, adapter: TransformerAdapter) -> TransformerAdapter:
    """Return an adapter given by a user, if it fits the model.

    Raises:
        ValueError: the adapter names something that the model does not have.
    """
    name = type(model).__name__
    lists = {key: child for key, child in model.named_children() if isinstance(child, nn.ModuleList) and len(child)}
    _check("module list", (*adapter.stacks, *adapter.before, *adapter.between), lists, name)
    parameters = inspect.signature(type(model).forward).parameters
    _check("argument", (adapter.latents, adapter.timestep), parameters, f"{name}.forward")
    for stack in adapter.stacks:
        block = lists[stack][0]
        parameters = inspect.signature(type(block).forward).parameters
        tokens = (adapter.block_tokens, *([adapter.block_text] if adapter.block_text else []))
        _check("argument", tokens, parameters, f"{type(block).__name__}.forward")
        parts = [each for each in (adapter.attention, adapter.after_attention.get(stack)) if each]
        _check("submodule", parts, dict(block.named_modules()), type(block).__name__)
    return adapter


def _check(kind: str, names: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raise ValueError if the adapter names something that its owner does not have."""
    known = [name for name in known if name and name != "self"]
    for name in names:
        if name not in known:
            raise ValueError(
                f"the TransformerAdapter names the {kind} {name!r}, which {owner} does not have: expected one of "
                f"{', '.join(known)}"
            )
