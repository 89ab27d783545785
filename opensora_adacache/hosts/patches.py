"""Replace methods of single objects, and put them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patches:
    """Methods replaced on instances; the classes stay as they are."""

    def __init__(self) -> None:
        self._patched: list[tuple[Any, str]] = []

    def wrap(self, instance: Any, name: str, wrapper: Callable[[Callable], Callable]) -> None:
        """Replace method `name` of `instance` by ``wrapper(original)``."""
        replacement = wrapper(getattr(instance, name))
        instance.__dict__[name] = replacement
        self._patched.append((instance, name))

    def restore(self) -> None:
        """Give every instance its class's method back."""
        while self._patched:
            instance, name = self._patched.pop()
            del instance.__dict__[name]
