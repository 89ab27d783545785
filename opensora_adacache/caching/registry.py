"""Names of the caching policies and the locations of their settings; register new policies here."""

from __future__ import annotations

import importlib
from typing import Any

from opensora_adacache.errors.closest import closest

POLICIES: dict[str, str] = {
    "AdaCache": "opensora_adacache.caching.adacache:AdaCacheConfig",
    "BWCache": "opensora_adacache.caching.policies.bwcache:BWCacheConfig",
    "BudCache": "opensora_adacache.caching.policies.budcache:BudCacheConfig",
    "DMD": "opensora_adacache.caching.policies.dmd:DMDConfig",
    "DPCache": "opensora_adacache.caching.policies.dpcache:DPCacheConfig",
    "DeltaDiT": "opensora_adacache.caching.policies.delta_dit:DeltaDiTConfig",
    "DiCache": "opensora_adacache.caching.policies.dicache:DiCacheConfig",
    "EasyCache": "opensora_adacache.caching.policies.easycache:EasyCacheConfig",
    "FBCache": "opensora_adacache.caching.policies.fbcache:FBCacheConfig",
    "FasterCache": "opensora_adacache.caching.policies.fastercache:FasterCacheConfig",
    "FoCa": "opensora_adacache.caching.policies.foca:FoCaConfig",
    "Foresight": "opensora_adacache.caching.policies.foresight:ForesightConfig",
    "ForecastCache": "opensora_adacache.caching.forecast.config:ForecastCacheConfig",
    "GCache": "opensora_adacache.caching.policies.gcache:GCacheConfig",
    "HiCache": "opensora_adacache.caching.policies.hicache:HiCacheConfig",
    "L2P": "opensora_adacache.caching.policies.l2p:L2PConfig",
    "LeMiCa": "opensora_adacache.caching.policies.lemica:LeMiCaConfig",
    "MagCache": "opensora_adacache.caching.policies.magcache:MagCacheConfig",
    "MeanCache": "opensora_adacache.caching.policies.meancache:MeanCacheConfig",
    "NaviCache": "opensora_adacache.caching.policies.navicache:NaviCacheConfig",
    "PAB": "opensora_adacache.caching.policies.pab:PABConfig",
    "PlannedForecast": "opensora_adacache.caching.forecast.config:PlannedForecastConfig",
    "Planned": "opensora_adacache.caching.policies.planned:PlannedConfig",
    "ReCache": "opensora_adacache.caching.policies.recache:ReCacheConfig",
    "SeaCache": "opensora_adacache.caching.policies.seacache:SeaCacheConfig",
    "SenCache": "opensora_adacache.caching.policies.sencache:SenCacheConfig",
    "Spectrum": "opensora_adacache.caching.policies.spectrum:SpectrumConfig",
    "Static": "opensora_adacache.caching.policies.planned:StaticConfig",
    "TAFC": "opensora_adacache.caching.policies.tafc:TAFCConfig",
    "TGATE": "opensora_adacache.caching.policies.tgate:TGATEConfig",
    "TaylorSeer": "opensora_adacache.caching.policies.taylorseer:TaylorSeerConfig",
    "TeaCache": "opensora_adacache.caching.policies.teacache:TeaCacheConfig",
    "UnshiftedERTACache": "opensora_adacache.caching.policies.ertacache:UnshiftedERTACacheConfig",
}

COMMAND_NAMES: dict[str, str] = {
    "adacache": "AdaCache",
    "forecastcache": "ForecastCache",
    "pab": "PAB",
    "fastercache": "FasterCache",
    "tgate": "TGATE",
    "delta-dit": "DeltaDiT",
    "foresight": "Foresight",
    "teacache": "TeaCache",
    "fbcache": "FBCache",
    "dicache": "DiCache",
    "bwcache": "BWCache",
    "magcache": "MagCache",
    "easycache": "EasyCache",
    "taylorseer": "TaylorSeer",
    "hicache": "HiCache",
    "foca": "FoCa",
    "dmd": "DMD",
    "spectrum": "Spectrum",
    "tafc": "TAFC",
    "seacache": "SeaCache",
    "dpcache": "DPCache",
    "lemica": "LeMiCa",
    "navicache": "NaviCache",
    "sencache": "SenCache",
    "budcache": "BudCache",
    "l2p": "L2P",
    "meancache": "MeanCache",
    "gcache": "GCache",
    "recache": "ReCache",
    "unshifted-ertacache": "UnshiftedERTACache",
    "static": "Static",
}
"""Maps the names of the published policies on the command line and in tables to their names in configs."""


def config_class(name: str) -> type[Any]:
    """Return the settings class of the policy with this name in configs.

    >>> config_class("AdaCache").__name__
    'AdaCacheConfig'
    """
    module, _, attribute = POLICIES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def register(name: str, path: str) -> None:
    """Register the settings of your own policy under a name for config files.

    Args:
        name: the ``type`` in configs.
        path: "module:class"; imported when a config uses the name.

    Raises:
        ValueError: the name is taken.
    """
    if POLICIES.setdefault(name, path) != path:
        raise ValueError(f"the policy name '{name}' is taken by {POLICIES[name]}: choose another")


def type_name(config: type[Any]) -> str:
    """Return the name of a settings class in configs.

    >>> type_name(config_class("LeMiCa"))
    'LeMiCa'

    Raises:
        ValueError: the class is not registered.
    """
    for name, path in POLICIES.items():
        if path.rpartition(":")[2] == config.__name__ and config_class(name) is config:
            return name
    raise ValueError(f"{config.__name__} has no name in configs: register one with register(name, 'module:class')")


def command_name(config: type[Any]) -> str:
    """Return the name of a settings class on the command line and in tables.

    >>> command_name(config_class("AdaCache"))
    'adacache'
    """
    name = type_name(config)
    return next((command for command, known in COMMAND_NAMES.items() if known == name), name.lower())


def named_class(command: str) -> type[Any]:
    """Return the settings class of the policy with this name on the command line.

    Raises:
        ValueError: no policy has this name.
    """
    if command not in COMMAND_NAMES:
        hint = closest(command, COMMAND_NAMES)
        raise ValueError(f"unknown policy '{command}'{hint}; expected one of {', '.join(COMMAND_NAMES)}")
    return config_class(COMMAND_NAMES[command])
