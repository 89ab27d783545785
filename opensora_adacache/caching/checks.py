"""Checks for single settings, to be called in the ``__post_init__`` of a `CacheConfig`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number of at least 1.

    >>> is_count(3), is_count(0), is_count(True), is_count(2.0)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number.

    >>> is_number(0.5), is_number(float("inf")), is_number("0.5")
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_counts(settings: object, *names: str) -> None:
    """Raise ValueError unless each named attribute is a whole number of at least 1."""
    for name in names:
        if not is_count(getattr(settings, name)):
            raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(settings, name)!r}")


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless a value is a finite number above 0."""
    if not is_number(value) or not value > 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def check_corrector(value: Any) -> None:
    """Raise ValueError unless a value is a fraction in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"corrector must be a fraction from 0 (none) to below 1, got {value!r}")
