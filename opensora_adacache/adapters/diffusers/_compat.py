"""All private names of diffusers that the adapter needs; tested with diffusers 0.35.0 and 0.42.1.

diffusers informs its caches through hooks in a model's registry: about the guidance branch that a pipeline names
(``cache_context``), and about the end of a pipeline. A hook also replaces the model's `forward`, which other hooks
replace and restore as well, in any order; our hook only listens and replaces nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from diffusers.hooks._common import _ALL_TRANSFORMER_BLOCK_IDENTIFIERS
from diffusers.hooks._helpers import TransformerBlockRegistry
from diffusers.hooks.hooks import BaseState, HookFunctionReference, HookRegistry, ModelHook, StateManager
from torch import nn

BLOCK_LIST_NAMES: tuple[str, ...] = tuple(_ALL_TRANSFORMER_BLOCK_IDENTIFIERS)
"""Names under which diffusers searches for lists of blocks."""
REGISTRY = "_diffusers_hook"
RESET = "_reset_stateful_cache"
"""Method of a model that a pipeline calls at its end, if the model has it."""
CACHE_CONFIG = "_cache_config"
"""Attribute of a transformer that holds the config of the diffusers cache that is enabled."""
TEXT_CACHE = "text_kv_cache"
"""Beginning of the names of the hooks that keep keys and values of the text from step to step."""
SKIP_HOOK = "TransformerBlockSkipHook"
"""Class of the hook that skip-layer guidance puts on blocks."""

__all__ = ["BLOCK_LIST_NAMES", "CACHE_CONFIG", "CacheMark", "Listener", "TransformerBlockMetadata", "block_metadata"]


@dataclass(frozen=True)
class TransformerBlockMetadata:
    """Where a class of blocks takes and returns its tokens.

    Diffusers has a class of this name. That of 0.35 and 0.36 lacks the names of the arguments, and that of 0.37 to 0.40
    the name for text; the blocks registered there use the names below.

    Attributes:
        return_hidden_states_index: place of the video tokens in what a block returns.
        return_encoder_hidden_states_index: that of the text tokens; None where a block returns none.
        hidden_states_argument_name: argument with the video tokens.
        encoder_hidden_states_argument_name: argument with the text tokens.
    """

    return_hidden_states_index: int = 0
    return_encoder_hidden_states_index: int = None  # type: ignore[assignment]  # `BlockSignature.has_text` asks
    hidden_states_argument_name: str = "hidden_states"
    encoder_hidden_states_argument_name: str = "encoder_hidden_states"


def block_metadata(block_class: type[nn.Module]) -> TransformerBlockMetadata | None:
    """Return the metadata that diffusers has about a class of blocks, or None if it is not registered."""
    try:
        theirs = TransformerBlockRegistry.get(block_class)
    except ValueError:
        return None
    names = [field.name for field in fields(TransformerBlockMetadata)]
    return TransformerBlockMetadata(**{name: getattr(theirs, name) for name in names if hasattr(theirs, name)})


def has_exclusive_cache(model: nn.Module) -> bool:
    """Return whether a cache of diffusers is enabled, unless it only keeps keys and values of the text."""
    enabled = getattr(model, CACHE_CONFIG, None)
    return enabled is not None and type(enabled).__name__ != "TextKVCacheConfig"


class CacheMark:
    """Occupies a transformer's `_cache_config`, so that `enable_cache` refuses; becomes None in a copy."""

    def __deepcopy__(self, memo: dict) -> None:
        return None

    def __reduce__(self) -> tuple:
        return type(None), ()


class EndCall:
    """What a pipeline calls at its end on a model that has no caches of diffusers; does nothing in a copy."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.on_end = on_end

    def __call__(self, recurse: bool = True) -> None:
        self.on_end()

    def __deepcopy__(self, memo: dict) -> EndCall:
        return EndCall(_nothing)

    def __reduce__(self) -> tuple:
        return EndCall, (_nothing,)


class Listener(ModelHook):
    """Receives what a pipeline tells the caches of a model.

    Args:
        name: name in the registry.
        on_end: called when a pipeline ends.
    """

    _is_stateful = True

    def __init__(self, name: str, on_end: Callable[[], None]) -> None:
        super().__init__()
        self.name = name
        self.on_end = on_end
        self.contexts = StateManager(BaseState)  # type: ignore[arg-type]  # only its context is used

    @property
    def branch(self) -> str:
        """The guidance branch that the pipeline named; "" if it named none."""
        context = self._context
        return getattr(context, "name", context) or ""

    @property
    def step_index(self) -> int | None:
        """The current step of the pipeline, if it provides one."""
        return getattr(self._context, "step_index", None)

    @property
    def _context(self) -> Any:
        """A `CacheContext`; before diffusers 0.41, the name alone; None outside of one."""
        return getattr(self.contexts, "_context", None) or getattr(self.contexts, "_current_context", None)

    def reset_state(self, module: nn.Module) -> nn.Module:
        """Report the end of a pipeline, when diffusers resets its stateful hooks."""
        self.on_end()
        return module

    def __deepcopy__(self, memo: dict) -> Listener:
        return Listener(self.name, _nothing)

    def __reduce__(self) -> tuple:
        return Listener, (self.name, _nothing)

    def attach(self, model: nn.Module) -> Callable[[], None]:
        """Insert the hook into the model's registry before all other hooks; their chain of forwards stays unchanged.

        Returns:
            A function that removes the listener, and the registry if it was created for it and holds nothing else.
        """
        had_registry = hasattr(model, REGISTRY)
        registry = HookRegistry.check_if_exists_or_initialize(model)
        if self.name in registry.hooks:  # left over from a copy
            _remove(registry, model, self.name)
        registry.hooks[self.name] = self
        registry._hook_order.insert(0, self.name)
        registry._fn_refs.insert(0, HookFunctionReference())
        _forget_child_registries(registry, model)
        calls_end = not hasattr(type(model), RESET)
        if calls_end:
            model.__dict__[RESET] = EndCall(self.on_end)

        def detach() -> None:
            _remove(registry, model, self.name)
            if calls_end:
                model.__dict__.pop(RESET, None)
            if not had_registry and not registry.hooks:
                del model.__dict__[REGISTRY]

        return detach


def hooks_of_caches(model: nn.Module) -> Iterator[str]:
    """Yield the names of other caches' hooks (those that keep state) on a model and its submodules."""
    for module in model.modules():
        hooks: Mapping[str, ModelHook] = getattr(getattr(module, REGISTRY, None), "hooks", {})
        yield from (name for name, hook in hooks.items() if _is_cache(name, hook))


def _is_cache(name: str, hook: ModelHook) -> bool:
    """Return whether a hook belongs to a cache that skips work; that of text keys and values gives exact ones."""
    return hook._is_stateful and not isinstance(hook, Listener) and not name.startswith(TEXT_CACHE)


def is_skipped(block: nn.Module) -> bool:
    """Return whether a guider has told a block to pass its input through, as skip-layer guidance does for one call."""
    hooks: Mapping[str, ModelHook] = getattr(block.__dict__.get(REGISTRY), "hooks", {})
    return any(type(hook).__name__ == SKIP_HOOK and hook.dropout == 1 for hook in hooks.values())  # type: ignore[attr-defined]


def is_parallel(model: nn.Module) -> bool:
    """Return whether a model is split over several devices."""
    return getattr(model, "_parallel_config", None) is not None


def token_group(model: nn.Module) -> Any:
    """Return the process group between which a model's tokens are split into equal parts; None for other ways."""
    context = getattr(getattr(model, "_parallel_config", None), "context_parallel_config", None)
    uneven = getattr(context, "ulysses_anything", False) or getattr(context, "ring_anything", False)
    return None if context is None or uneven else context._flattened_mesh.get_group()


def splits_argument(block: nn.Module, name: str) -> bool:
    """Return whether a hook of a block gives it only this device's part of an argument."""
    hooks: Mapping[str, ModelHook] = getattr(getattr(block, REGISTRY, None), "hooks", {})
    return any(
        type(hook).__name__ == "ContextParallelSplitHook" and name in hook.metadata  # type: ignore[attr-defined]
        for hook in hooks.values()
    )


def _remove(registry: Any, model: nn.Module, name: str) -> None:
    index = registry._hook_order.index(name)
    del registry.hooks[name], registry._hook_order[index], registry._fn_refs[index]
    _forget_child_registries(registry, model)


def _forget_child_registries(registry: Any, model: nn.Module) -> None:
    """Let a registry and those below it look for their children again; diffusers 0.41 and later have a method."""
    if hasattr(registry, "invalidate_child_registries_cache"):
        registry.invalidate_child_registries_cache()
        return
    for module in model.modules():
        if hasattr(module, REGISTRY):
            getattr(module, REGISTRY)._child_registries_cache = None  # not there before 0.38, where it is not read


def _nothing() -> None:
    pass
