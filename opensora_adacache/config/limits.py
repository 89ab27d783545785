"""The largest numbers that a config may hold."""

from __future__ import annotations

from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown

# Far above any real run. Larger numbers are typing errors, which would fill the memory.
MOST = 10_000


def check_size(settings: object, name: str) -> None:
    """Raise ConfigError unless the named setting lies in -MOST..MOST; tensors of 32 bits cannot hold any float."""
    if not -MOST <= getattr(settings, name) <= MOST:
        raise ConfigError(f"{name} must lie in -{MOST}..{MOST}, got {shown(getattr(settings, name))}")


def check_counts(settings: object, *names: str) -> None:
    """Raise ConfigError unless the named settings lie in 1..MOST."""
    for name in names:
        if not 1 <= getattr(settings, name) <= MOST:
            raise ConfigError(f"{name} must be at least 1 and at most {MOST}, got {shown(getattr(settings, name))}")
