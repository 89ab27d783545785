"""Adaptive caching for Open-Sora 1.2 and the video transformers of diffusers, attached from outside.

The public names are imported on first use, so ``import opensora_adacache`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "AdaCacheConfig",
    "CacheConfig",
    "CachePolicy",
    "ForecastCacheConfig",
    "GuidanceReuse",
    "MoRegConfig",
    "TransformerAdapter",
    "__version__",
    "apply_cache",
]

if TYPE_CHECKING:
    from opensora_adacache.adapters import apply_cache
    from opensora_adacache.adapters.transformer_adapter import TransformerAdapter
    from opensora_adacache.caching.adacache import AdaCacheConfig
    from opensora_adacache.caching.contract import CacheConfig, CachePolicy
    from opensora_adacache.caching.forecast.config import ForecastCacheConfig
    from opensora_adacache.caching.guidance.settings import GuidanceReuse
    from opensora_adacache.caching.moreg import MoRegConfig

_HOMES = {
    "AdaCacheConfig": "opensora_adacache.caching.adacache",
    "CacheConfig": "opensora_adacache.caching.contract",
    "CachePolicy": "opensora_adacache.caching.contract",
    "ForecastCacheConfig": "opensora_adacache.caching.forecast.config",
    "GuidanceReuse": "opensora_adacache.caching.guidance.settings",
    "MoRegConfig": "opensora_adacache.caching.moreg",
    "TransformerAdapter": "opensora_adacache.adapters.transformer_adapter",
    "apply_cache": "opensora_adacache.adapters",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
