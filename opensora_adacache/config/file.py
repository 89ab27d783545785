"""Read a config file into plain dicts: Python, YAML or JSON with ``_base_``, in the format of mmengine.

The format is that of `mmengine.config.Config`. This package has its own reader for three reasons: a mapping that is a
value, such as a codebook, replaces that of the base instead of being merged with it (`merging.merge`); YAML is loaded
as data only; and every error is one line. A ``.py`` config is a program: reading it runs it.
"""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from opensora_adacache.config.merging import merge, plain_copy
from opensora_adacache.config.repeated_keys import check_dicts
from opensora_adacache.errors.family import ConfigError, MissingFileError
from opensora_adacache.errors.shown import one_line, shown
from opensora_adacache.presets.json_object import RepeatedKeyError, unique_keys

BASE = "_base_"
SUFFIXES = (".py", ".yaml", ".yml", ".json")

_FILE_VARIABLE = re.compile(r"\{\{\s*(fileDirname|fileBasenameNoExtension|fileBasename|fileExtname)\s*\}\}")
_ENVIRONMENT_VARIABLE = re.compile(r"""\{\{['"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['"]?\}\}""")
_BASE_VARIABLE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")


def read_file(path: Path) -> dict[str, Any]:
    """Read a config and the files it is based on into plain dicts, lists, tuples and values.

    Names that begin with an underscore are private variables of the file and are left out.

    Raises:
        MissingFileError: the file, or one it is based on, does not exist.
        ConfigError: it cannot be read, or it is a program that fails.
    """
    try:
        values = plain_copy(_read(path, ()))
    except (RecursionError, MemoryError):
        raise ConfigError(f"config '{path}' cannot be read: it is nested too deeply") from None
    return {key: value for key, value in values.items() if not key.startswith("_")}


class _Values(dict):
    """A dict whose keys can be read and set as attributes, which ``_base_.model`` needs."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the base has no '{name}'") from None

    __setattr__ = dict.__setitem__  # type: ignore[assignment]


def _read(path: Path, readers: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file and merge it over its bases. `readers` are the files that led here."""
    _check_path(path, readers)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"config '{path}' is not UTF-8 text") from None
    text = _ENVIRONMENT_VARIABLE.sub(_environment_value, _FILE_VARIABLE.sub(lambda m: _file_value(path, m[1]), text))
    is_program = path.suffix.lower() == ".py"
    parsed = _parse_program(path, text) if is_program else _parse_data(path, text)
    base = _read_bases(path, parsed, (*readers, path.resolve()))
    values = (
        _run(path, parsed, base)
        if isinstance(parsed, ast.Module)
        else plain_copy(parsed, text=lambda text: _fill_in(text, base, path))
    )
    for key in values:
        if not isinstance(key, str):
            raise ConfigError(f"config '{path}' has the key {shown(key)}; expected names")
    values = {key: value for key, value in values.items() if not key.startswith("__") and key != BASE}
    return merge(base, values)


def _check_path(path: Path, readers: tuple[Path, ...]) -> None:
    whose = f"a _base_ of config '{readers[-1]}'" if readers else "config"
    if not os.path.exists(path):
        hint = "" if readers else "; 'opensora-adacache configs' lists the ones that ship with the package"
        verb = f"does not exist: {path}" if readers else f"'{path}' does not exist"
        raise MissingFileError(f"{whose} {verb}{hint}")
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        kind = "a folder" if path.is_dir() else f"a file ending in '{path.suffix}'"
        raise ConfigError(f"config '{path}' is {kind}; expected a file ending in {', '.join(SUFFIXES)}")
    if path.resolve() in readers:
        raise ConfigError(f"config '{path}' is its own _base_")


def _parse_program(path: Path, text: str) -> ast.Module:
    # In a Python config, a value of the base is an ordinary expression.
    try:
        program = ast.parse(_BASE_VARIABLE.sub(r"(_base_.\1)", text), str(path))
    except SyntaxError as error:
        raise ConfigError(f"config '{path}' is not valid Python: {error.msg}, near line {error.lineno}") from None
    except ValueError as error:  # null bytes
        raise ConfigError(f"config '{path}' is not valid Python: {one_line(error)}") from None
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(program)):
        raise ConfigError(f"config '{path}' imports another config; name it in _base_ = ['…'] instead")
    try:
        check_dicts(program)
    except RepeatedKeyError as error:
        raise ConfigError(f"config '{path}' cannot be read: {error}") from None
    return program


def _parse_data(path: Path, text: str) -> dict[Any, Any]:
    # A placeholder string until the bases are read; see `_fill_in`.
    text = _BASE_VARIABLE.sub(r'"{{_base_.\1}}"', text)
    try:
        if path.suffix.lower() == ".json":
            values = json.loads(text, object_pairs_hook=unique_keys)
        else:
            from opensora_adacache.config.yaml_data import load_yaml

            values = load_yaml(text)
    except ValueError as error:
        raise ConfigError(f"config '{path}' cannot be read: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"config '{path}' must hold keys and values, got {shown(values)}")
    return values


def _read_bases(path: Path, parsed: ast.Module | dict[Any, Any], readers: tuple[Path, ...]) -> _Values:
    if isinstance(parsed, dict):
        names = parsed.get(BASE, [])
    else:
        assigned = [statement for statement in parsed.body if _assigns_base(statement)]
        parsed.body = [statement for statement in parsed.body if statement not in assigned]
        again = [
            *assigned[:-1],
            *(node for statement in parsed.body for node in ast.walk(statement) if _sets_base(node)),
        ]
        if again:
            raise ConfigError(
                f"config '{path}' sets _base_ where it is not read, near line {again[0].lineno}; write _base_ = ['…'] "  # type: ignore[attr-defined]
                "once, at the top level"
            )
        names = []
        if assigned:
            expression = ast.Expression(assigned[-1].value)  # type: ignore[attr-defined]
            names = _guarded(path, lambda: eval(compile(expression, str(path), "eval"), {}))
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"_base_ of config '{path}' must be a path or a list of paths, got {shown(names)}")
    base = _Values()
    for name in names:
        values = _read(path.parent / os.path.expanduser(name), readers)
        twice = sorted(base.keys() & values.keys())
        if twice:
            raise ConfigError(
                f"two of the _base_ files of config '{path}' set {', '.join(twice)}; leave one of them out"
            )
        base.update(plain_copy(values, _Values))
    return base


def _assigns_base(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id == BASE
    )


def _sets_base(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == BASE and isinstance(node.ctx, ast.Store)


def _run(path: Path, program: ast.Module, base: _Values) -> dict[Any, Any]:
    """Run a config and return its variables."""
    namespace: dict[str, Any] = {BASE: base, "__name__": "<config>", "__file__": str(path)}
    _guarded(path, lambda: exec(compile(program, str(path), "exec"), namespace))
    return {key: value for key, value in namespace.items() if not isinstance(value, FunctionType | ModuleType)}


def _guarded(path: Path, run: Any) -> Any:
    """Run a part of a config, and turn any error into one line."""
    try:
        return run()
    except (RecursionError, MemoryError):
        raise
    except SystemExit:
        raise ConfigError(f"config '{path}' ends the program itself; a config may only set variables") from None
    except SyntaxError as error:
        raise ConfigError(f"config '{path}' is not valid Python: {error.msg}, near line {error.lineno}") from None
    except Exception as error:  # a config is a program: it may raise anything
        raise ConfigError(f"config '{path}' cannot be read: {one_line(error)}") from None


def _fill_in(value: str, base: _Values, path: Path) -> Any:
    """Return the value of the base that a string ``{{_base_.key}}`` stands for, or any other string unchanged."""
    match = _BASE_VARIABLE.fullmatch(value)
    if match is None:
        return value
    found: Any = base
    for key in match[1].split("."):
        if not isinstance(found, dict) or key not in found:
            raise ConfigError(f"config '{path}' asks for {match[0]}, which its _base_ does not have")
        found = found[key]
    return found


def _file_value(path: Path, name: str) -> str:
    path = path.absolute()
    values = {"fileDirname": path.parent, "fileBasename": path.name, "fileBasenameNoExtension": path.stem}
    return str(values.get(name, path.suffix)).replace("\\", "/")


def _environment_value(match: re.Match[str]) -> str:
    value = os.environ.get(match[1], match[2])
    if not value:
        raise ConfigError(f"the environment variable {match[1]} is not set, and {match[0]} gives no other value")
    return value
