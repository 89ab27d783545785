"""Reads a JSON object as the fields of a dataclass."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from opensora_adacache.errors.shown import shown


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
