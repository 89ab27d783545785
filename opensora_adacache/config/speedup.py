"""The cache section that names a speedup, ``dict(policy="adacache", speedup=2.2)``, and the settings it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opensora_adacache.config.settings import ModelSettings
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.models.structure import VARIANTS, STDiT3Config
from opensora_adacache.presets.identity import ModelIdentity, identity_of_stdit3
from opensora_adacache.presets.lookup import find_settings


def find_section(section: Mapping[str, Any], num_steps: int, model: ModelIdentity) -> dict[str, Any]:
    """Return a section with the settings that its ``policy`` and ``speedup`` stand for; its other keys override them.

    Raises:
        ConfigError: the section also says what only the settings may say.
        ValueError: the model has no settings for the speedup.
    """
    own = dict(section)
    policy, speedup = own.pop("policy"), own.pop("speedup", None)
    for key in ("type", "calibrated", "codebook", "tolerance", "computed_steps"):
        if own.get(key) is not None:
            raise ConfigError(f"cache.policy goes with cache.speedup alone, got {key} too: leave one of them out")
    if speedup is None:
        raise ConfigError("cache.policy goes with cache.speedup, which is missing: set it to a number such as 2")
    return {**find_settings(model, speedup, policy).section(num_steps), **own}


def identity_of_checkpoint(model: ModelSettings) -> ModelIdentity:
    """Return the identity of an STDiT3 that is not loaded yet, from its ``config.json`` or its type.

    Raises:
        ConfigError: neither says its structure.
    """
    path = Path(model.from_pretrained)
    file = (path if path.is_dir() else path.parent) / "config.json"
    if path.exists() and file.is_file():
        try:
            values = dict(json.loads(file.read_text(encoding="utf-8")))
        except (TypeError, ValueError):
            raise ConfigError(f"'{file}' is not a JSON object; download the checkpoint again") from None
        return identity_of_stdit3(STDiT3Config.from_dict(values))
    if model.type not in VARIANTS:
        raise ConfigError(
            f"cache.speedup needs the structure of '{model.from_pretrained}', which is not here yet: download it, or "
            f"set model.type to one of {', '.join(VARIANTS)}"
        )
    return identity_of_stdit3(STDiT3Config.from_dict(VARIANTS[model.type]))
