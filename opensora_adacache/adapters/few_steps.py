"""Warns where a run is so short that a cache can save little, as with distilled models."""

from __future__ import annotations

import warnings

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.dry_run import fewest_steps
from opensora_adacache.errors.family import AdaCacheWarning

FEW_STEPS = 8
LONG_RUN = 50


def warn_of_few_steps(config: CacheConfig, num_sampling_steps: int) -> None:
    """Warn, for a run of at most 8 steps, how much a policy could save at most; settings that skip nothing are fine."""
    if num_sampling_steps > FEW_STEPS:
        return
    policy = type(config).__name__.removesuffix("Config")
    least = _fewest(config, num_sampling_steps)
    if least is None or least == num_sampling_steps and _fewest(config, LONG_RUN) in (None, LONG_RUN):
        return
    most = f"so it makes this model at most {num_sampling_steps / least:.2f} times as fast"
    if least == num_sampling_steps:
        most = "so it saves nothing"
    warnings.warn(
        f"a run of {num_sampling_steps} steps is short: {policy} computes at least {least} of them, {most}",
        AdaCacheWarning,
        stacklevel=4,
    )


def _fewest(config: CacheConfig, num_sampling_steps: int) -> int | None:
    """Return the smallest number of computed steps, or None where a policy cannot decide without a model."""
    try:
        return fewest_steps(config, num_sampling_steps)
    except Exception:  # a policy from outside may expect anything of a model
        return None
