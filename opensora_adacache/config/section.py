"""Build frozen dataclasses from plain dicts, with an error for every unknown key and wrong type.

A misspelled key that nothing reads would silently have no effect. A section may therefore only have the fields of its
dataclass as keys.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from opensora_adacache.errors.closest import closest
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import one_line, shown

_Section = TypeVar("_Section")

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a string",
    type(None): "None",
}


def check_keys(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise ConfigError for the first unknown key, suggesting the closest known one.

    Args:
        values: the section as written.
        known: the keys that it may have.
        where: name of the section, or "" for the top level of a config.
    """
    known = list(known)
    for key in values:
        if key not in known:
            name = _join(where, key)
            raise ConfigError(
                f"unknown key '{name}' in the config{closest(key, known)}; expected one of {', '.join(known)}"
            )


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def build(section: type[_Section], values: Any, where: str) -> _Section:
    """Build a dataclass from a dict whose keys are its fields. `where` is its name, or "" for a whole config.

    Lists become tuples, whole numbers become floats for float fields, and dicts become dataclasses for dataclass
    fields. The dataclass checks the values itself, and its errors are prefixed with the name of the section.

    Raises:
        ConfigError: `values` is not a dict, a key is unknown or missing, a type is wrong, or the dataclass refuses a
            value.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must be a section such as dict(…), got {values!r}")
    known = {field.name: field for field in fields(section)}  # type: ignore[arg-type]
    check_keys(values, known, where)
    for name, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in values:
            raise ConfigError(f"the config needs '{_join(where, name)}', which is missing")
    hints = get_type_hints(section)
    converted = {name: convert(value, hints[name], _join(where, name)) for name, value in values.items()}
    try:
        return section(**converted)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"{where}: {one_line(error)}" if where else one_line(error)) from None


def convert(value: Any, hint: Any, where: str) -> Any:
    """Return `value` converted to the type `hint`.

    Raises:
        ConfigError: it has a different type. The message names `where` and what was expected.

    >>> convert([64, 64], tuple[int, int], "image_size")
    (64, 64)
    """
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is Literal:
        if any(type(value) is type(allowed) and value == allowed for allowed in arguments):
            return value
        names = [name for name in arguments if isinstance(name, str)]
        raise ConfigError(
            f"{where} is {shown(value)}{closest(value, names)}; expected one of {', '.join(map(str, arguments))}"
        )
    if origin is tuple and isinstance(value, (list, tuple)):
        return _convert_tuple(value, arguments, hint, where)
    if is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, where)  # type: ignore[arg-type]
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        key_hint, value_hint = arguments
        return {
            _convert_key(key, key_hint, where): convert(entry, value_hint, f"{where}[{shown(key)}]")
            for key, entry in value.items()
        }
    if hint in (int, float):
        number = _number(value, hint)
        if number is not None:
            return number
    elif isinstance(value, origin or hint):
        return _check_text(value, where) if isinstance(value, str) else value
    raise ConfigError(f"{where} must be {_describe(hint)}, got {shown(value)}")


def _check_text(text: str, where: str) -> str:
    """Refuse strings that neither file names nor records can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:  # command line bytes that are not UTF-8
        raise ConfigError(f"{where} must be valid Unicode text, got {shown(text)}") from None
    if "\0" in text:
        raise ConfigError(f"{where} must not hold null characters, got {shown(text)}")
    return text


def _number(value: Any, kind: type) -> int | float | None:
    """Return a Python or NumPy number as a plain int or a finite float, or None if it is neither."""
    number = Integral if kind is int else Real
    if not isinstance(value, number) or isinstance(value, bool):
        return None
    try:
        plain = kind(value)
        return plain if math.isfinite(plain) else None
    except OverflowError:  # an integer beyond 1e308
        return None


def _convert_key(key: Any, hint: Any, where: str) -> Any:
    """Convert a key of a mapping. JSON stores numeric keys as strings."""
    if hint is float and isinstance(key, str):
        with contextlib.suppress(ValueError):
            key = float(key)
    return convert(key, hint, f"a key of {where}")


def _convert_union(value: Any, hints: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    if len(hints) == 1:  # its own message is more specific than that of the union
        return convert(value, hints[0], where)
    for hint in hints:
        try:
            return convert(value, hint, where)
        except ValueError:
            continue
    raise ConfigError(f"{where} must be {' or '.join(map(_describe, hints))}, got {shown(value)}")


def _convert_tuple(value: Any, hints: tuple[Any, ...], hint: Any, where: str) -> tuple[Any, ...]:
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise ConfigError(f"{where} must be {_describe(hint)}, got {shown(value)}")
    pairs = enumerate(zip(value, hints, strict=True))
    return tuple(convert(entry, entry_hint, f"{where}[{i}]") for i, (entry, entry_hint) in pairs)


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list ({_describe(arguments[0])} each)"
        return f"a list of {len(arguments)} ({_describe(arguments[0])} each)"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a dict ({_describe(arguments[0])}: {_describe(arguments[1])})"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, arguments))
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))
