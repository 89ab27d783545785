"""The folder in which a user's own calibrations are kept."""

from __future__ import annotations

import os
import re
from pathlib import Path

VARIABLE = "OPENSORA_ADACACHE_CALIBRATIONS"


def calibrations_folder() -> Path:
    """Return the folder of the user's calibrations, which need not exist.

    It is what the environment variable OPENSORA_ADACACHE_CALIBRATIONS names, or else
    ``opensora_adacache/calibrations`` in XDG_CACHE_HOME (~/.cache).
    """
    if os.environ.get(VARIABLE):
        return Path(os.path.expanduser(os.environ[VARIABLE]))
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(cache)) / "opensora_adacache" / "calibrations"


def calibration_path(name: str, digest: str, num_steps: int) -> Path:
    """Return the file for the calibrations of a model at a number of steps.

    >>> calibration_path("CogVideoX-2b", "0a1b", 50).name
    'CogVideoX-2b-0a1b-50.json'
    """
    return calibrations_folder() / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{digest}-{num_steps}.json"
