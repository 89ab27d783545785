"""Read a config file into plain dicts, and change them by dotted keys."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def read_file(path: Path) -> dict[str, Any]:
    """Read a mmengine config into plain dicts, lists, tuples and values.

    Names that begin with an underscore are the file's own variables and are left out.
    """
    from mmengine.config import Config

    if not path.is_file():
        raise FileNotFoundError(f"config '{path}' does not exist; the ready ones lie in configs/")
    try:
        values = Config.fromfile(path).to_dict()
        return {key: value for key, value in values.items() if not key.startswith("_")}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"a _base_ of config '{path}' does not exist: {error.filename or error}") from None
    except SyntaxError as error:
        raise ValueError(f"config '{path}' is not valid Python: {error.msg}, near line {error.lineno}") from None
    except Exception as error:  # a config is a program: it may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"config '{path}' cannot be read: {reason}") from None


def get_value(values: Mapping[str, Any], dotted: str) -> Any:
    """Return the value under a dotted key, or None."""
    for key in dotted.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return None
        values = values[key]
    return values


def set_value(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key; sections that are missing or None are made."""
    *sections, last = dotted.split(".")
    for depth, key in enumerate(sections):
        if values.get(key) is None:
            values[key] = {}
        values = values[key]
        if not isinstance(values, dict):
            name = ".".join(sections[: depth + 1])
            raise ValueError(f"'{name}' in '{dotted}' is no section of the config, it is {values!r}")
    values[last] = value


def parse_dict(value: Any) -> Any:
    """Turn a dict written on the command line, such as ``{0.08:6,1.0:1}``, into one.

    mmengine's DictAction hands over its text, or, where there is a comma, a list of its pieces.
    """
    text = ",".join(map(str, value)) if isinstance(value, list) else value
    if not isinstance(text, str) or not (text.startswith("{") and text.endswith("}") and ":" in text):
        return value
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        raise ValueError(f"cannot read the dict {text}; write it like {{0.08:6,1.0:1}}") from None


def merge(values: dict[str, Any], changes: Mapping[str, Any], sections: Iterable[str]) -> None:
    """Change `values` in place; of the dicts named by `sections` only the keys that are given."""
    for key, value in changes.items():
        if key in sections and isinstance(value, Mapping) and isinstance(values.get(key), dict):
            values[key] = {**values[key], **value}
        else:
            values[key] = value
