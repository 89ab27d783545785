"""Attaches a cache to a diffusers pipeline, where each call sets the number of steps."""

from __future__ import annotations

from functools import partial
from typing import Any

from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers.attach import attach_diffusers
from opensora_adacache.adapters.requested import Requested
from opensora_adacache.adapters.schedulers import check_scheduler, output_weights
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.presets.identity import identity_of_pipeline

_SCALES = "scales outputs by the noise level before its scheduler gets them"
_MANY_SCHEDULERS = "gives each frame timesteps of its own"
NO_CORRECTOR = {
    "Cosmos2TextToImagePipeline": _SCALES,
    "Cosmos2VideoToWorldPipeline": _SCALES,
    "SkyReelsV2DiffusionForcingPipeline": _MANY_SCHEDULERS,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": _MANY_SCHEDULERS,
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": _MANY_SCHEDULERS,
}
"""Pipelines that do more to outputs than their scheduler's step → what they do."""

COUNT_ALL_CHUNKS = ("AnyFlowFARPipeline",)
"""Autoregressive pipelines whose `num_timesteps` counts the steps of all chunks; each chunk is a run."""


def attach_pipeline(pipeline: Any, requested: Requested, num_sampling_steps: int | None) -> BranchedSession:
    """Attach a session to a pipeline's transformer; see `opensora_adacache.adapters.apply_cache`.

    If `num_sampling_steps` is None, the number is read from the pipeline when a run begins, and the settings are then
    found for it, if a speedup is requested, and checked against it.

    Raises:
        ValueError: the pipeline has no transformer or two of them, there are no settings, or they do not fit.
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
    if hasattr(transformer, "_orig_mod"):
        raise ValueError(
            f"the transformer of this {name} is compiled as a whole, so that no step can skip its blocks: compile the "
            "blocks instead, with block.compile()"
        )
    found = None
    if requested.config is None:
        kind, structure = type(transformer).__name__, transformer.config
        found = requested.found(identity_of_pipeline(pipeline.name_or_path or "", kind, structure))
        config = found.at_any() if num_sampling_steps is None else found.at(num_sampling_steps)
    else:
        config = requested.config
    check_corrector(pipeline, config)
    steps = (lambda: count_steps(pipeline)) if num_sampling_steps is None else num_sampling_steps
    session = attach_diffusers(transformer, config, steps)
    session.config_for = found.at if found is not None and num_sampling_steps is None else None
    session.output_weights = partial(weights_of_run, pipeline)
    session.is_interrupted = lambda: bool(getattr(pipeline, "_interrupt", False))
    return session


def check_corrector(pipeline: Any, config: CacheConfig) -> None:
    """Raise ValueError if the settings have a corrector that the pipeline's scheduler does not allow."""
    if not config.corrector:
        return
    name = type(pipeline).__name__
    if name in NO_CORRECTOR:
        raise ValueError(f"no corrector fits {name}, which {NO_CORRECTOR[name]}: set corrector=0")
    check_scheduler(pipeline.scheduler)


def weights_of_run(pipeline: Any, num_steps: int, from_start: bool = False) -> tuple[float, ...]:
    """Return how far the output of each step of the run that begins moves the final latents.

    Args:
        pipeline: the pipeline.
        num_steps: number of steps of the run.
        from_start: whether these are the scheduler's first timesteps, as for the first of two transformers. Otherwise
            they are its last ones: all of them, or what is left when a pipeline starts from a video (`strength`).
    """
    first = 0 if from_start else max(len(pipeline.scheduler.timesteps) - num_steps, 0)
    return output_weights(pipeline.scheduler, num_steps, first)


def count_steps(pipeline: Any) -> int:
    """Return the number of model calls of each guidance branch in the pipeline's current call.

    Most pipelines provide it as `num_timesteps`, which excludes the steps that a `strength` skips; for the others it is
    the length of the scheduler's `timesteps`.
    """
    if type(pipeline).__name__ in COUNT_ALL_CHUNKS:
        return len(pipeline.scheduler.timesteps)
    try:
        return int(pipeline.num_timesteps)
    except AttributeError:
        return len(pipeline.scheduler.timesteps)
