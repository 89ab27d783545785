"""What every adapter does with a policy's settings before attaching: fills in the probe and warns about a misfit."""

from __future__ import annotations

import warnings

from opensora_adacache.caching.contract import CacheConfig, Probe
from opensora_adacache.errors.family import AdaCacheWarning


def probed_layers(probe: Probe | None, depth: int) -> tuple[int, ...]:
    """Return the layers of a probe: by default layer depth // 2 − 1 (the paper's 13 of 28), or all for their outputs.

    >>> probed_layers(Probe("t-attn"), 28), probed_layers(Probe("output"), 3), probed_layers(None, 28)
    ((13,), (0, 1, 2), ())

    Raises:
        ValueError: the model has no such layer.
    """
    if probe is None:
        return ()
    if probe.layers is not None:
        beyond = [layer for layer in probe.layers if not 0 <= layer < depth]
        if beyond:
            raise ValueError(f"a probe (cache_loc of AdaCache) must name layers of 0..{depth - 1}, got {beyond[0]}")
        return probe.layers
    return tuple(range(depth)) if probe.residual == "output" else (max(depth // 2 - 1, 0),)


def warn_of_misfit(config: CacheConfig, num_sampling_steps: int, model_name: str | None = None) -> None:
    """Warn if the settings probably do not suit a model; see `CacheConfig.misfit`."""
    doubt = config.misfit(num_sampling_steps, model_name)
    if doubt is not None:
        warnings.warn(doubt, AdaCacheWarning, stacklevel=4)
