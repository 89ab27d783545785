"""Warnings of settings that belong to a model: published for Open-Sora 1.2 and met by another, or missing."""

from __future__ import annotations

import warnings

from opensora_adacache.caching.config import AdaCacheConfig, CacheConfig
from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.policies.teacache import OPEN_SORA_COEFFICIENTS, TeaCacheConfig

OPEN_SORA_CODEBOOKS: tuple[dict[float, int], ...] = (
    {0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.40: 2, 1.00: 1},
    {0.08: 3, 0.16: 2, 0.24: 1, 0.32: 1, 0.40: 1, 1.00: 1},
    {0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.00: 3},
    {0.08: 8, 0.16: 6, 0.24: 4, 0.32: 2, 0.40: 1, 1.00: 1},
)
"""AdaCache's codebooks: 30 steps fast and slow, 100 steps, and the ablation's medium one."""


def warn_of_open_sora_constants(config: CacheConfig, model_name: str) -> None:
    """Warn where settings are those published for Open-Sora 1.2 and the model is another one."""
    what = None
    if isinstance(config, AdaCacheConfig) and config.codebook in OPEN_SORA_CODEBOOKS:
        what, remedy = "codebook", "find one for this model with scripts/calibrate_pipeline.py"
    elif isinstance(config, TeaCacheConfig) and config.coefficients == OPEN_SORA_COEFFICIENTS:
        what, remedy = "TeaCache polynomial", "give the coefficients fitted to this model, or (1, 0) for none"
    if what is not None:
        warnings.warn(
            f"this {what} was published for Open-Sora 1.2, not for {model_name}: {remedy}", UserWarning, stacklevel=4
        )


def warn_of_missing_profile(config: CacheConfig, num_sampling_steps: int) -> None:
    """Warn where ForecastCache is to skip steps and does not know which of them harm the video."""
    if not isinstance(config, ForecastCacheConfig) or config.budget(num_sampling_steps) == num_sampling_steps:
        return
    if len(set(config.sensitivity)) == 1:
        warnings.warn(
            "ForecastCache has no profile of this model, so it takes errors at all steps for equally harmful, which "
            "costs quality: give it the sensitivity and growth that scripts/calibrate.py --policy forecastcache finds",
            UserWarning,
            stacklevel=4,
        )
