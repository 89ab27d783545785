"""Replace methods of single objects, and put them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()


class Patches:
    """Attributes replaced on instances; the classes stay as they are."""

    def __init__(self) -> None:
        self._patched: list[tuple[Any, str, Any]] = []

    def wrap(self, instance: Any, name: str, wrapper: Callable[[Callable], Callable]) -> None:
        """Replace method `name` of `instance` by ``wrapper(original)``."""
        self.set(instance, name, wrapper(getattr(instance, name)))

    def set(self, instance: Any, name: str, value: Any) -> None:
        """Replace attribute `name` of `instance`."""
        self._patched.append((instance, name, instance.__dict__.get(name, _ABSENT)))
        instance.__dict__[name] = value

    def restore(self) -> None:
        """Give every instance what it had: an attribute of its own, or its class's."""
        while self._patched:
            instance, name, before = self._patched.pop()
            if before is _ABSENT:
                del instance.__dict__[name]
            else:
                instance.__dict__[name] = before


@contextmanager
def wrapped(instance: Any, name: str, wrapper: Callable[[Callable], Callable]) -> Iterator[None]:
    """Replace method `name` of `instance` by ``wrapper(original)`` within a ``with`` block."""
    patches = Patches()
    patches.wrap(instance, name, wrapper)
    try:
        yield
    finally:
        patches.restore()
