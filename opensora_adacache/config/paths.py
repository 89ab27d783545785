"""Find the paths that configs name, and refuse URLs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from opensora_adacache.errors.family import ConfigError, MissingFileError

_PACKAGE = Path(__file__).resolve().parents[1]
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

SHIPPED = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
"""Folder that holds ``configs`` and ``assets``: the package if a wheel was installed, else the repository."""


def locate(path: str | Path) -> Path:
    """Find a path from a config: in the current folder, or else among the files that ship with the package.

    Returns:
        The first path that exists, or the path as given if none does.
    """
    given = Path(os.path.expanduser(path))
    candidates = (given, SHIPPED / given, _PACKAGE.parent / given)
    return next((candidate for candidate in candidates if os.path.exists(candidate)), given)


def locate_checkpoint(name: str, where: str) -> str:
    """Return the path of a checkpoint as `locate` finds it, or a hub name, which is resolved when the model is loaded.

    Args:
        name: local folder or file, or hub name.
        where: what is named, for errors.

    Raises:
        ConfigError: it is a URL.
        MissingFileError: it does not exist and cannot be a hub name.
    """
    refuse_url(name, where)
    path = locate(name)
    if name.strip() and os.path.exists(path):  # False for "", and for names that no file can have
        return str(path)
    if not _HUB_NAME.fullmatch(name) or path.suffix in _CHECKPOINT_SUFFIXES:
        raise MissingFileError(
            f"{where} '{name}' does not exist; expected a local folder or file, or a hub name owner/name"
        )
    return name


def find_config(name: str | Path) -> Path:
    """Find a config by its path, or a config that ships with the package by its name without folder and suffix.

    >>> find_config("scenes/sample_adacache").relative_to(SHIPPED).as_posix()
    'configs/scenes/sample_adacache.py'

    Returns:
        The first file that exists, or the path as given if there is none.
    """
    given = Path(os.path.expanduser(name))
    shipped = SHIPPED / "configs" / given
    candidates = (given, SHIPPED / given, shipped, shipped.with_name(f"{shipped.name}.py"))
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), given)


def shipped_configs() -> list[str]:
    """Return the names of the configs that ship with the package, as `find_config` takes them."""
    folder = SHIPPED / "configs"
    files = (file.relative_to(folder) for file in sorted(folder.rglob("*.py")))
    return [file.with_suffix("").as_posix() for file in files if "_base_" not in file.parts]


def refuse_url(text: str, where: str) -> None:
    """Raise ConfigError for a URL where a local path is expected. Nothing is downloaded."""
    if _URL.match(text.strip()):
        raise ConfigError(f"{where} '{text.strip()}' is a URL, which is not fetched; download it and pass its path")
