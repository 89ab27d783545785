"""Checks for single settings, to be called in the ``__post_init__`` of a `CacheConfig`."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable
from numbers import Integral, Real
from typing import Any


def plain(value: Any) -> Any:
    """Convert numbers from Python, numpy or `fractions` to int or float, also inside tuples, lists and dicts.

    With plain numbers, settings compare, print and serialize in the same way whatever their source. Other values are
    returned unchanged.

    >>> from fractions import Fraction
    >>> plain((Fraction(1, 4), {0.5: True}))
    (0.25, {0.5: True})
    """
    if type(value) in (bool, int, float):
        return value
    if isinstance(value, Integral):
        return operator.index(value)
    if isinstance(value, Real):
        return float(value)
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {plain(key): plain(entry) for key, entry in value.items()}
    return value


def items(name: str, value: Any) -> tuple[Any, ...]:
    """Return the value of a list setting as a tuple of plain numbers; raise ValueError if it is not a list.

    >>> items("steps", range(1, 4))
    (1, 2, 3)
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list, got {value!r}")
    return tuple(map(plain, value))


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number of at least 1.

    >>> is_count(3), is_count(0), is_count(True), is_count(2.0)
    (True, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and operator.index(value) >= 1


def is_index(value: Any) -> bool:
    """Return whether a value is a whole number of at least 0, such as the index of a layer.

    >>> is_index(0), is_index(False), is_index(-1)
    (True, False, False)
    """
    return is_count(value) or (isinstance(value, Integral) and not isinstance(value, bool) and value == 0)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number.

    >>> is_number(0.5), is_number(float("inf")), is_number("0.5")
    (True, False, False)
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond 1e308
        return False


def check_counts(settings: object, *names: str) -> None:
    """Raise ValueError unless each named attribute is a whole number of at least 1."""
    for name in names:
        if not is_count(getattr(settings, name)):
            raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(settings, name)!r}")


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless a value is a finite number above 0."""
    if not is_number(value) or not value > 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")


def check_fraction(name: str, value: Any) -> None:
    """Raise ValueError unless a value is a number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a fraction from 0 to 1, got {value!r}")


def check_text(name: str, value: Any) -> None:
    """Raise ValueError unless a value is a string or None."""
    if not isinstance(value, str | None):
        raise ValueError(f"{name} must be a string, got {value!r}")


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise ValueError unless a value is one of the choices."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def check_corrector(value: Any) -> None:
    """Raise ValueError unless a value is a fraction in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"corrector must be a fraction from 0 (none) to below 1, got {value!r}")
