"""Merge sections of a config, and read and set them by dotted keys.

A mapping in a config is either a *section*, whose keys name settings, or a *value*, such as a codebook. A change to a
section only changes the keys that it names. A value is replaced as a whole; otherwise a new codebook would keep the
thresholds of the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from opensora_adacache.caching.registry import POLICIES, config_class
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown

# In a section: use this section alone and drop that of the base.
DELETE = "_delete_"


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of `base` with the changes applied. The arguments are not modified.

    >>> merge({"cache": {"codebook": {0.1: 4, 1.0: 2}, "metric": "l2"}}, {"cache": {"codebook": {1.0: 1}}})
    {'cache': {'codebook': {1.0: 1}, 'metric': 'l2'}}
    """
    merged = dict(base)
    values = _value_keys(changes.get("type", base.get("type")))
    for key, value in changes.items():
        if not _is_section(value):
            merged[key] = value
            continue
        old = base.get(key)
        if not isinstance(old, Mapping) or not _is_section(old) or key in values or value.get(DELETE):
            old = {}
        merged[key] = merge(old, {name: entry for name, entry in value.items() if name != DELETE})
    return merged


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


@cache
def _mapping_fields(policy: str) -> frozenset[str]:
    hints = get_type_hints(config_class(policy))
    return frozenset(name for name, hint in hints.items() if any(map(_is_mapping, (hint, *get_args(hint)))))


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _value_keys(policy: object) -> frozenset[str]:
    """Return the settings of a policy (AdaCache by default) that are mappings."""
    return _mapping_fields(policy if isinstance(policy, str) and policy in POLICIES else "AdaCache")


def get_value(values: Mapping[str, Any], dotted: str) -> Any:
    """Return the value under a dotted key, or None."""
    for key in dotted.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return None
        values = values[key]
    return values


def set_value(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key, creating sections that are missing or None.

    Raises:
        ConfigError: a part of the key is not a section.
    """
    *sections, last = dotted.split(".")
    for depth, key in enumerate(sections):
        if values.get(key) is None:
            values[key] = {}
        if not isinstance(values[key], dict):
            name = ".".join(sections[: depth + 1])
            raise ConfigError(f"'{name}' in '{dotted}' is not a section of the config, it is {shown(values[key])}")
        values[key] = dict(values[key])  # other keys may refer to the same dict
        values = values[key]
    values[last] = value


def plain_copy(value: Any, mapping: type[dict] = dict, text: Callable[[str], Any] = str) -> Any:
    """Copy dicts (as `mapping`), lists and tuples, and convert NumPy numbers and arrays to Python's.

    An object that occurs in several places stays one object, because a few YAML aliases can expand to more than fits
    into memory.

    Args:
        value: value from a config.
        mapping: type of the copied dicts.
        text: function that is applied to strings.
    """
    seen: dict[int, Any] = {}

    def copy(value: Any) -> Any:
        if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, str):
            return text(value)
        if not isinstance(value, dict | list | tuple):
            return value
        if id(value) not in seen:
            if isinstance(value, dict):
                seen[id(value)] = mapping({key: copy(entry) for key, entry in value.items()})
            else:
                entries = [copy(entry) for entry in value]
                seen[id(value)] = tuple(entries) if isinstance(value, tuple) else entries
        return seen[id(value)]

    return copy(value)
