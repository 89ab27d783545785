"""Checkpoint-compatible models of Open-Sora 1.2. They are not aware of caching."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["OpenSoraVAE", "STDiT3", "STDiT3Config", "T5TextEncoder"]

if TYPE_CHECKING:
    from opensora_adacache.models.stdit3 import STDiT3, STDiT3Config
    from opensora_adacache.models.text_encoder import T5TextEncoder
    from opensora_adacache.models.vae import OpenSoraVAE

_HOMES = {
    "OpenSoraVAE": "opensora_adacache.models.vae",
    "STDiT3": "opensora_adacache.models.stdit3",
    "STDiT3Config": "opensora_adacache.models.stdit3",
    "T5TextEncoder": "opensora_adacache.models.text_encoder",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
