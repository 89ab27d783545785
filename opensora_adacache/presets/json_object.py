"""Reads JSON objects: their keys, and their values as the fields of a dataclass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from opensora_adacache.errors.shown import shown


class RepeatedKeyError(ValueError):
    """A key occurs twice in one object, so that one of its values would be ignored."""


def unique_keys(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return pairs as a dict; a hook for ``json.loads(…, object_pairs_hook=unique_keys)``.

    Raises:
        RepeatedKeyError: a key occurs twice.

    >>> unique_keys([("seed", 1), ("fps", 8)])
    {'seed': 1, 'fps': 8}
    """
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RepeatedKeyError(f"the key {shown(key)} occurs twice: leave one of them out")
        found[key] = value
    return found


def known_fields(kind: type, content: Any) -> dict[str, Any]:
    """Return the values of a JSON object that are fields of a dataclass; other keys are ignored.

    Args:
        kind: the dataclass.
        content: the parsed JSON.

    Raises:
        ValueError: the content is not an object, or lacks a field that has no default.
    """
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {shown(content)}")
    for field in fields(kind):
        if field.default is MISSING and field.default_factory is MISSING and field.name not in content:
            raise ValueError(f"'{field.name}' is missing")
    return {field.name: content[field.name] for field in fields(kind) if field.name in content}
