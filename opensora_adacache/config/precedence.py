"""Keys of a config that override others: of two that say the same, one counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opensora_adacache.errors.family import ConfigError

# A key -> the keys that it overrides.
_STRONGER = {"image_size": ("resolution", "aspect_ratio"), "prompt": ("prompt_path",)}


def check_changes(changes: Mapping[str, Any]) -> None:
    """Check flags and options of one command, where both of such keys are a mistake. In files, one is that of a base.

    Raises:
        ConfigError: a key is set together with one that it overrides.
    """
    for key, weaker in _STRONGER.items():
        for name in weaker:
            if changes.get(key) is not None and changes.get(name) is not None:
                raise ConfigError(f"{key} and {name} are both given, and {name} would have no effect: leave one out")


def yield_to(changes: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Remove the keys of a config that would override those that are about to be changed."""
    for key, weaker in _STRONGER.items():
        if key not in changes and any(name in changes for name in weaker):
            values[key] = None
