"""Finds known classes by name, so that none of them has to be installed or imported."""

from __future__ import annotations

from collections.abc import Container


def base_among(instance: object, names: Container[str]) -> str | None:
    """Return the name of an instance's class, or of the nearest one that it inherits from, that is among some names.

    What is true of a class is then also true of the classes that users derive from it.

    >>> base_among(True, {"int", "float"}), base_among("text", {"int", "float"})
    ('int', None)
    """
    return next((base.__name__ for base in type(instance).__mro__ if base.__name__ in names), None)
