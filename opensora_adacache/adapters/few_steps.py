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
    least = fewest_steps(config, num_sampling_steps)
    if least is None or least == num_sampling_steps and _computes_all(config, num_sampling_steps):
        return
    most = f"so it makes this model at most {num_sampling_steps / least:.2f} times as fast"
    if least == num_sampling_steps:
        most = "so it saves nothing"
    warnings.warn(
        f"a run of {num_sampling_steps} steps is short: {policy} computes at least {least} of them, {most}",
        AdaCacheWarning,
        stacklevel=4,
    )


def _computes_all(config: CacheConfig, num_sampling_steps: int) -> bool:
    """Return whether the settings are a plan that skips nothing, or skip nothing in a long run either."""
    is_plan = config.fixed_steps(num_sampling_steps) is not None
    return is_plan or fewest_steps(config, LONG_RUN) == LONG_RUN
