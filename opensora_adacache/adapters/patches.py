"""Replaces methods of single objects and restores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from torch import nn

from opensora_adacache.caching.session import CacheSession

_ABSENT = object()
CALL = "_compiled_call_impl"
"""The attribute that ``module(...)`` looks up first. Hooks of accelerate and diffusers replace `forward`, in any order
and any number of times; a wrapper in this attribute is outside of all of them and of what ``block.compile()`` compiles.
torch omits it from copies and pickles."""


class Wrapper:
    """A function that replaces a method of one object; in a copy or a pickle of the object it becomes the method."""

    def __init__(self, owner: Any, name: str, function: Callable) -> None:
        self.owner = owner
        self.name = name
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return plain_method(memo.get(id(self.owner), self.owner), self.name)

    def __reduce__(self) -> tuple:
        return plain_method, (self.owner, self.name)


def plain_method(owner: Any, name: str) -> MethodType:
    """Return a method as the class defines it, ignoring what was set on the object."""
    return MethodType(getattr(type(owner), name), owner)


class Patches:
    """Attributes replaced on instances; the classes remain unchanged."""

    def __init__(self) -> None:
        self._patched: list[tuple[Any, str, Any, Any]] = []

    def wrap(self, instance: Any, name: str, wrapper: Callable[[Callable], Callable]) -> None:
        """Replace method `name` of `instance` with ``wrapper(original)``."""
        self.set(instance, name, Wrapper(instance, name, wrapper(getattr(instance, name))))

    def wrap_call(self, module: nn.Module, wrapper: Callable[[Callable], Callable]) -> Callable:
        """Replace what ``module(...)`` runs with ``wrapper(original)``, outside its hooks; return the replacement."""
        replacement = wrapper(module._compiled_call_impl or module._call_impl)
        self.set(module, CALL, replacement)
        return replacement

    def wrap_model(self, model: nn.Module, wrapper: Callable[[Callable], Callable]) -> None:
        """Replace what ``model(...)`` runs, as `wrap_call` does, and refuse ``model.compile()``, which undoes it."""
        self.wrap_call(model, wrapper)
        if hasattr(model, "compile"):
            self.wrap(model, "compile", lambda original: _refuse_compile)

    def set(self, instance: Any, name: str, value: Any) -> None:
        """Replace attribute `name` of `instance`."""
        self._patched.append((instance, name, instance.__dict__.get(name, _ABSENT), value))
        instance.__dict__[name] = value

    def restore(self) -> None:
        """Restore every instance's original attribute (its own or its class's), except where others replaced ours."""
        while self._patched:
            instance, name, before, ours = self._patched.pop()
            if instance.__dict__.get(name, _ABSENT) is not ours:
                continue
            if before is _ABSENT:
                del instance.__dict__[name]
            else:
                instance.__dict__[name] = before


def _refuse_compile(*args: Any, **kwargs: Any) -> None:
    raise ValueError(
        "this model has a cache attached, which a model that is compiled as a whole would go past: detach the session, "
        "compile the blocks instead, with block.compile(), and apply the cache again"
    )


@contextmanager
def wrapped(instance: Any, name: str, wrapper: Callable[[Callable], Callable]) -> Iterator[None]:
    """Replace method `name` of `instance` with ``wrapper(original)`` inside a ``with`` block."""
    patches = Patches()
    patches.wrap(instance, name, wrapper)
    try:
        yield
    finally:
        patches.restore()


@contextmanager
def wrapped_call(module: nn.Module, wrapper: Callable[[Callable], Callable]) -> Iterator[None]:
    """Replace what ``module(...)`` runs with ``wrapper(original)`` inside a ``with`` block; see `Patches.wrap_call`."""
    patches = Patches()
    patches.wrap_call(module, wrapper)
    try:
        yield
    finally:
        patches.restore()


def unless_aside(session: CacheSession, wrapper: Callable[[Callable], Callable]) -> Callable[[Callable], Callable]:
    """Return a wrapper that calls the original while a session runs rows aside (`CacheSession.is_aside`)."""

    def outer(original: Callable) -> Callable:
        cached = wrapper(original)
        return lambda *args: (original if session.is_aside else cached)(*args)

    return outer
