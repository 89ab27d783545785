"""What every adapter does with a policy's settings before attaching: fills in the probe and warns about a misfit."""

from __future__ import annotations

import warnings
from dataclasses import replace

from opensora_adacache.caching.contract import CacheConfig, Probe
from opensora_adacache.errors.family import AdaCacheWarning


def with_middle_layer(probe: Probe, depth: int) -> Probe:
    """Return a probe with layer depth // 2 − 1 (the paper's 13 of 28) if it does not specify layers.

    >>> with_middle_layer(Probe("t-attn"), 28).layers
    (13,)
    """
    return probe if probe.layers is not None else replace(probe, layers=(max(depth // 2 - 1, 0),))


def warn_of_misfit(config: CacheConfig, num_sampling_steps: int, model_name: str | None = None) -> None:
    """Warn if the settings probably do not suit a model; see `CacheConfig.misfit`."""
    doubt = config.misfit(num_sampling_steps, model_name)
    if doubt is not None:
        warnings.warn(doubt, AdaCacheWarning, stacklevel=4)
