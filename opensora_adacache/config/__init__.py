"""Config files: read, checked, and turned into frozen dataclasses. Needs no torch."""

from opensora_adacache.config.load import load_config
from opensora_adacache.config.paths import locate
from opensora_adacache.config.settings import RunConfig

__all__ = ["RunConfig", "load_config", "locate"]
