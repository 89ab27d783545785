"""Reads the input of a submodule of a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class _Captured(Exception):
    """Carries a submodule's input out of a block whose remaining part need not run."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = tensor


def first_input(block: nn.Module, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the first input of a submodule without running the rest of the block."""

    def stop(module: nn.Module, inputs: tuple, named: dict) -> None:
        raise _Captured(_first(inputs, named))

    handle = block.get_submodule(name).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        block._call_impl(*args, **kwargs)
    except _Captured as captured:
        return captured.tensor
    finally:
        handle.remove()
    raise RuntimeError(f"{type(block).__name__} did not call its {name}")


def run_and_capture(
    block: nn.Module,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    held: Callable[[Tensor], Tensor],
) -> tuple[Any, Tensor]:
    """Run a block uncompiled (hooks inside would be compiled too); return its output and a submodule's first input.

    Args:
        held: copies that input if the block may write into it later.
    """
    captured: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple, named: dict) -> None:
        captured.append(held(_first(inputs, named)))

    handle = block.get_submodule(name).register_forward_pre_hook(keep, with_kwargs=True)
    try:
        out = block._call_impl(*args, **kwargs)
    finally:
        handle.remove()
    return out, captured[0]


def _first(inputs: tuple, named: dict) -> Tensor:
    return inputs[0] if inputs else named["hidden_states"]
