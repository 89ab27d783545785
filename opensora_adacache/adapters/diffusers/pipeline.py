"""Attaches a cache to a diffusers pipeline, where each call sets the number of steps."""

from __future__ import annotations

from typing import Any

from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers.attach import attach_diffusers
from opensora_adacache.caching.contract import CacheConfig


def attach_pipeline(pipeline: Any, config: CacheConfig, num_sampling_steps: int | None) -> BranchedSession:
    """Attach a session to a pipeline's transformer; see `opensora_adacache.adapters.apply_cache`.

    If `num_sampling_steps` is None, the number is read from the pipeline when a run begins, and the settings are then
    checked against it.

    Raises:
        ValueError: the pipeline has no transformer or two of them, or the settings do not fit.
    """
    name = type(pipeline).__name__
    transformer = getattr(pipeline, "transformer", None)
    if transformer is None:
        raise ValueError(f"{name} has no transformer, and apply_cache caches transformers only")
    if getattr(pipeline, "transformer_2", None) is not None:
        raise ValueError(
            f"{name} has two transformers that share the steps: apply a cache to each of them, pipe.transformer and "
            "pipe.transformer_2, with its number of steps"
        )
    if num_sampling_steps is not None:
        return attach_diffusers(transformer, config, num_sampling_steps)
    return attach_diffusers(transformer, config, lambda: count_steps(pipeline))


def count_steps(pipeline: Any) -> int:
    """Return the number of model calls of each guidance branch in the pipeline's current call.

    Most pipelines provide it as `num_timesteps`, which excludes the steps that a `strength` skips; for the others it is
    the length of the scheduler's `timesteps`.
    """
    try:
        return int(pipeline.num_timesteps)
    except AttributeError:
        return len(pipeline.scheduler.timesteps)
