"""`apply_cache`, the one way to attach a cache to a model."""

from __future__ import annotations

from typing import Any

from opensora_adacache.caching.config import CacheConfig
from opensora_adacache.caching.policies import POLICIES, is_config
from opensora_adacache.caching.session import CacheSession


def apply_cache(model: Any, config: CacheConfig, num_sampling_steps: int) -> CacheSession:
    """Attach a cache to a model, from outside, and return its session.

    Use it in a ``with`` statement, or as a plain call that stays on until ``session.detach()``. Everything is checked
    before the model is touched; detaching leaves no trace on it.

    Args:
        model: an `opensora_adacache.models.STDiT3`.
        config: settings of a policy: an `AdaCacheConfig`, or any other in `caching.policies`.
        num_sampling_steps: denoising steps of the sampler; the policy always computes the last two.

    Raises:
        ValueError: the settings do not fit the model or the run, or the model has a cache already.
    """
    from opensora_adacache.hosts.stdit3 import attach_stdit3
    from opensora_adacache.models.stdit3 import STDiT3

    if not is_config(config):
        raise ValueError(
            f"apply_cache expects the settings of a policy ({', '.join(POLICIES)}), got {type(config).__name__}"
        )
    if not isinstance(model, STDiT3):
        raise ValueError(f"apply_cache knows opensora_adacache.models.STDiT3, got {type(model).__name__}")
    return attach_stdit3(model, config, num_sampling_steps)
