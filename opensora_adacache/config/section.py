"""Build frozen dataclasses from plain dicts, with an error for every unknown key or wrong type.

mmengine passes over keys that nobody reads, so a typing error in a config would change nothing and be seen by
nobody. Here the fields of a dataclass are the only keys a section may have.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from opensora_adacache.errors.closest import closest

_Section = TypeVar("_Section")

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "None",
}


def check_keys(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise ValueError for the first key that is not known, with the closest one that is.

    Args:
        values: the section as it was written.
        known: the keys it may have.
        where: the section's name, or "" for the top level of a config.
    """
    known = list(known)
    for key in values:
        if key not in known:
            name = _join(where, key)
            raise ValueError(
                f"unknown key '{name}' in the config{closest(key, known)}; expected one of {', '.join(known)}"
            )


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def build(section: type[_Section], values: Any, where: str) -> _Section:
    """Build a dataclass from a dict whose keys are its fields; `where` is its name, "" for a whole config.

    Lists become tuples, whole numbers become floats where a float is wanted, dicts become dataclasses where a
    field is one. The dataclass checks the values themselves; the section's name goes before its errors.

    Raises:
        ValueError: no dict, an unknown or missing key, a wrong type, or a value the dataclass refuses.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a section such as dict(…), got {values!r}")
    known = {field.name: field for field in fields(section)}  # type: ignore[arg-type]
    check_keys(values, known, where)
    for name, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in values:
            raise ValueError(f"the config needs '{_join(where, name)}', which is missing")
    hints = get_type_hints(section)
    converted = {name: convert(value, hints[name], _join(where, name)) for name, value in values.items()}
    try:
        return section(**converted)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def convert(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the type `hint` wants it.

    Raises:
        ValueError: it is of another type; the message names `where` and what was expected.

    >>> convert([64, 64], tuple[int, int], "image_size")
    (64, 64)
    """
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is Literal:
        if value in arguments:
            return value
        raise ValueError(
            f"{where} is {value!r}{closest(value, map(str, arguments))}; expected one of "
            f"{', '.join(map(str, arguments))}"
        )
    if origin is tuple and isinstance(value, (list, tuple)):
        return _convert_tuple(value, arguments, hint, where)
    if is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, where)  # type: ignore[arg-type]
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        key_hint, value_hint = arguments
        return {
            convert(key, key_hint, f"a key of {where}"): convert(entry, value_hint, f"{where}[{key!r}]")
            for key, entry in value.items()
        }
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = origin or hint
    if isinstance(value, plain) and (plain is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{where} must be {_describe(hint)}, got {value!r}")


def _convert_union(value: Any, hints: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    if len(hints) == 1:  # its own message says more than that of the union
        return convert(value, hints[0], where)
    for hint in hints:
        try:
            return convert(value, hint, where)
        except ValueError:
            continue
    raise ValueError(f"{where} must be {' or '.join(map(_describe, hints))}, got {value!r}")


def _convert_tuple(value: Any, hints: tuple[Any, ...], hint: Any, where: str) -> tuple[Any, ...]:
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise ValueError(f"{where} must be {_describe(hint)}, got {value!r}")
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
