"""Find the paths that configs name, and refuse URLs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from opensora_adacache.errors.family import ConfigError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def locate(path: str | Path) -> Path:
    """Find a path from a config: in the current folder, or else beside the package (the bundled weights).

    Returns:
        The first path that exists, or the path as given if none does.
    """
    given = Path(os.path.expanduser(path))
    beside_package = Path(__file__).resolve().parents[2] / given
    return beside_package if not os.path.exists(given) and os.path.exists(beside_package) else given


def refuse_url(text: str, where: str) -> None:
    """Raise ConfigError for a URL where a local path is expected. Nothing is downloaded."""
    if _URL.match(text.strip()):
        raise ConfigError(f"{where} '{text.strip()}' is a URL, which is not fetched; download it and pass its path")
