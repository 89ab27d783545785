"""Find keys that a dict in Python code has twice: Python keeps the last value and says nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from opensora_adacache.errors.shown import shown
from opensora_adacache.presets.json_object import RepeatedKeyError


def check_dicts(tree: ast.AST) -> None:
    """Check every dict that is written out in a program. Keys that the program computes are not compared.

    Raises:
        RepeatedKeyError: a dict has a key twice.

    >>> check_dicts(ast.parse("{0.1: 4, 1.0: 1}"))
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            seen = set()
            for key, line in _constants(node):
                if key in seen:
                    raise RepeatedKeyError(
                        f"the key {shown(key)} occurs twice in a dict, near line {line}: leave one of them out"
                    )
                seen.add(key)


def _constants(node: ast.Dict) -> Iterator[tuple[Any, int]]:
    """Yield the keys of a dict that are constants, with their lines."""
    for key in filter(None, node.keys):  # None is that of **others
        try:
            value = ast.literal_eval(key)
            hash(value)
        except (ValueError, TypeError):  # computed, or of a kind that no dict takes
            continue
        yield value, key.lineno
