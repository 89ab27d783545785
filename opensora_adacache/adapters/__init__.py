"""How a cache attaches to a model."""

from opensora_adacache.adapters.attach import apply_cache

__all__ = ["apply_cache"]
