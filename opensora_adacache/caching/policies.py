"""Names of caching policies and where their settings are; the one place to add a policy to."""

from __future__ import annotations

import importlib
from typing import Any

POLICIES: dict[str, str] = {
    "AdaCache": "opensora_adacache.caching.config:AdaCacheConfig",
    "DeltaDiT": "opensora_adacache.caching.peers.delta_dit:DeltaDiTConfig",
    "EasyCache": "opensora_adacache.caching.peers.easycache:EasyCacheConfig",
    "FBCache": "opensora_adacache.caching.peers.fbcache:FBCacheConfig",
    "MagCache": "opensora_adacache.caching.peers.magcache:MagCacheConfig",
    "PAB": "opensora_adacache.caching.peers.pab:PABConfig",
    "Planned": "opensora_adacache.caching.peers.planned:PlannedConfig",
    "SeaCache": "opensora_adacache.caching.peers.seacache:SeaCacheConfig",
    "Static": "opensora_adacache.caching.peers.planned:StaticConfig",
    "TGATE": "opensora_adacache.caching.peers.tgate:TGATEConfig",
    "TaylorSeer": "opensora_adacache.caching.peers.taylorseer:TaylorSeerConfig",
    "TeaCache": "opensora_adacache.caching.peers.teacache:TeaCacheConfig",
}


def config_class(name: str) -> type[Any]:
    """Return the settings class of a policy by its name in configs.

    >>> config_class("AdaCache").__name__
    'AdaCacheConfig'
    """
    module, _, attribute = POLICIES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def is_config(value: object) -> bool:
    """Tell whether a value is the settings of a policy."""
    return f"{type(value).__module__}:{type(value).__name__}" in POLICIES.values()
