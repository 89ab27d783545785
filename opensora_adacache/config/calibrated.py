"""Calibrated settings: constants of a model, in JSON files that calibration writes and configs refer to.

A cache section takes its constants from such a file with one key::

    cache = dict(calibrated="scenes_30.json#adacache-2.5x", decision="sample")

The part before ``#`` is a file in configs/calibrated, or a path. The part after it names one of the settings in the
file and is optional if there is only one. ``{steps}`` stands for the number of sampling steps. Keys beside
``calibrated`` override those of the file. The ``moreg`` section takes the same key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opensora_adacache.config.paths import SHIPPED
from opensora_adacache.errors.closest import closest
from opensora_adacache.media.files import write_file
from opensora_adacache.presets.calibrated_file import CalibratedFile, CalibratedSetting, read_calibrated

FOLDER = SHIPPED / "configs" / "calibrated"


def write_calibrated(path: Path, calibrated: CalibratedFile) -> None:
    """Write a file of calibrated settings atomically, with one line per section.

    Raises:
        OSError: the file cannot be written.
    """
    content = asdict(calibrated)
    content = {"version": content.pop("version"), **content}
    if calibrated.digest is None:
        del content["digest"]
    for name, setting in content["settings"].items():
        content["settings"][name] = {key: value for key, value in setting.items() if value is not None}
    write_file(path, (_lines(content, depth=3) + "\n").encode())


def read_setting(reference: str) -> CalibratedSetting:
    """Return the settings that ``FILE#NAME`` refers to.

    >>> read_setting("open_sora_1_2_30.json#adacache-fast").section["codebook"]
    {0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.4: 2, 1.0: 1}

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no setting of that name, or it has several and the reference names none.
    """
    file, _, name = reference.partition("#")
    settings = read_calibrated(find_calibrated(file)).settings
    if not name and len(settings) == 1:
        return next(iter(settings.values()))
    if name not in settings:
        problem = f"has no setting '{name}'" if name else "has several settings"
        names = closest(name, settings) or f"; expected one of {', '.join(settings)}"
        raise ValueError(f"'{file}' {problem}, written '{file}#NAME'{names}")
    return settings[name]


def find_calibrated(file: str) -> Path:
    """Return the path of a file of calibrated settings: one in configs/calibrated, or any other path.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = FOLDER / file
    if not path.is_file():
        path = Path(os.path.expanduser(file))
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in FOLDER.glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"calibrated file '{path}' does not exist; name a path, or one of configs/calibrated: {known}"
        )
    return path


def fill_in(section: Mapping[str, Any], num_steps: int, where: str) -> dict[str, Any]:
    """Return a section with the settings that its key ``calibrated`` refers to. The section's own keys override them.

    Args:
        section: section as written in the config.
        num_steps: number that replaces ``{steps}``.
        where: name of the section, for errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no such setting, or the setting has a different type.
    """
    own = dict(section)
    reference = own.pop("calibrated", None)
    if reference is None:
        return own
    if not isinstance(reference, str):
        raise ValueError(f"{where}.calibrated must be a string such as 'FILE.json#NAME', got {reference!r}")
    found = read_setting(reference.replace("{steps}", str(num_steps))).section
    if own.get("type", found["type"]) != found["type"]:
        raise ValueError(
            f"{where}.type is '{own['type']}', but '{reference}' has settings of '{found['type']}'; leave type out, or "
            f"set {where}.calibrated=None"
        )
    merged = {**found, **own}
    if isinstance(found.get("moreg"), Mapping) and isinstance(own.get("moreg"), Mapping):
        merged["moreg"] = {**found["moreg"], **own["moreg"]}
    return merged


def _lines(value: Any, depth: int, margin: str = "") -> str:
    """Return JSON in which objects down to a depth are spread over several lines and deeper ones take one line.

    >>> print(_lines({"a": {"b": [1, 2]}}, depth=1))
    {
     "a": {"b": [1, 2]}
    }
    """
    if depth == 0 or not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    inner = margin + " "
    parts = [f"{inner}{json.dumps(str(key))}: {_lines(entry, depth - 1, inner)}" for key, entry in value.items()]
    return "{\n" + ",\n".join(parts) + f"\n{margin}}}"
