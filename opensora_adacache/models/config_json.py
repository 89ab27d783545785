"""Builds the structure of a model, a dataclass, from a ``config.json`` with arbitrary content."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from opensora_adacache.errors.family import CheckpointError
from opensora_adacache.errors.shown import one_line, shown

_Structure = TypeVar("_Structure")

# Far beyond any model. A larger number would fill the memory before the weights can reveal that it is wrong.
MOST = 100_000
MOST_LAYERS = 1000
_LAYERS = ("depth", "num_res_blocks", "layers_per_block")


def build_structure(structure: type[_Structure], values: Mapping[str, Any]) -> _Structure:
    """Return the dataclass `structure` with the fields present in `values`; other keys are ignored.

    Raises:
        CheckpointError: a field has another type, a number is not a plausible size, or the fields do not fit together.
    """
    hints = get_type_hints(structure)
    names = [field.name for field in fields(structure) if field.name in values]  # type: ignore[arg-type]
    given = {name: _check(values[name], hints[name], name) for name in names}
    with building("config.json"):
        return structure(**given)


@contextmanager
def building(source: str | Path) -> Iterator[None]:
    """Add the source of a structure to errors raised while a model is built from it.

    Raises:
        CheckpointError: in place of any error that a wrong structure can cause.
    """
    try:
        yield
    except Exception as error:  # the error for a wrong number depends on the library that builds the model
        raise CheckpointError(f"{source}: {one_line(error)}") from error


def _check(value: Any, hint: Any, name: str) -> Any:
    if get_origin(hint) in (tuple, Sequence):
        element = get_args(hint)[0]
        if isinstance(value, int | float):  # a single number can stand for all
            return _check(value, element, name)
        if not isinstance(value, list | tuple):
            raise CheckpointError(f"{name} in config.json must be a list, got {shown(value)}")
        return tuple(_check(entry, element, name) for entry in value)
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise CheckpointError(f"{name} in config.json must be true or false, got {shown(value)}")
    if hint is int:
        most = MOST_LAYERS if name in _LAYERS else MOST
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        raise CheckpointError(f"{name} in config.json must be a whole number in 1..{most}, got {shown(value)}")
    if hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
            return value
        raise CheckpointError(f"{name} in config.json must be a finite number, got {shown(value)}")
    return value
