"""Attaches a cache to a diffusers pipeline, where each call sets the number of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, update_wrapper
from typing import Any

from torch import nn

from opensora_adacache.adapters.bases import base_among
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers.attach import attach_diffusers
from opensora_adacache.adapters.diffusers.experts import (
    FIRST,
    StepsOfExperts,
    loaded_transformers,
    transformers_of,
)
from opensora_adacache.adapters.diffusers.experts_session import ExpertsSession
from opensora_adacache.adapters.diffusers.pipeline_steps import (
    PipelineCalls,
    count_steps,
    is_guided_by_calls,
    is_unguided,
    scheduler_position,
    weights_of_run,
)
from opensora_adacache.adapters.patches import Patches, Wrapper
from opensora_adacache.adapters.requested import Requested
from opensora_adacache.adapters.schedulers import check_scheduler
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.presets.identity import identity_of_pipeline
from opensora_adacache.presets.lookup import SpeedupSettings

_SCALES = "scales outputs by the noise level before its scheduler gets them"
_BLENDS = "blends outputs with its conditions and leaves out the last timestep"
_MANY_SCHEDULERS = "gives each frame timesteps of its own"
NO_CORRECTOR = {
    "Cosmos2TextToImagePipeline": _SCALES,
    "Cosmos2VideoToWorldPipeline": _SCALES,
    "LTX2DFRTemporalRefinePipeline": _BLENDS,
    "LTXI2VLongMultiPromptPipeline": _BLENDS,
    "SkyReelsV2DiffusionForcingPipeline": _MANY_SCHEDULERS,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": _MANY_SCHEDULERS,
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": _MANY_SCHEDULERS,
}
"""Pipelines that do more to outputs than their scheduler's step → what they do."""


def attach_pipeline(
    pipeline: Any, requested: Requested, num_sampling_steps: int | None
) -> BranchedSession | ExpertsSession:
    """Attach a session to the transformers of a pipeline; see `opensora_adacache.adapters.apply_cache`.

    If `num_sampling_steps` is None, the number is read from the pipeline when a run begins, and the settings are then
    found for it, if a speedup is requested, and checked against it. Two transformers read it always.

    Raises:
        ValueError: the pipeline has no transformer, there are no settings, or they do not fit. Nothing stays attached.
    """
    name, transformers = type(pipeline).__name__, transformers_of(pipeline)
    if any(hasattr(transformer, "_orig_mod") for transformer in transformers.values()):
        raise ValueError(
            f"the transformer of this {name} is compiled as a whole, so that no step can skip its blocks: compile the "
            "blocks instead, with block.compile()"
        )
    are_experts = len(transformers) > 1
    if are_experts and num_sampling_steps is not None:
        raise ValueError(
            f"{name} has two transformers that share the steps, and the number of each is read at every call: leave "
            "num_sampling_steps out"
        )
    found = None
    if requested.config is None:
        found = _found(pipeline, requested)
        config = found.at_any() if num_sampling_steps is None else found.at(num_sampling_steps)
    else:
        config = requested.config
    check_corrector(pipeline, config)

    def attach(transformer: nn.Module, steps: int | Callable[[], int], from_start: bool = False) -> BranchedSession:
        session = attach_diffusers(transformer, config, steps)
        if found is not None and num_sampling_steps is None:
            session.config_for = lambda number: found.at(count_steps(pipeline))
        session.begins_call = PipelineCalls(pipeline).begins
        session.output_weights = partial(weights_of_run, pipeline, from_start=from_start)
        session.is_unguided = partial(is_unguided, pipeline)
        session.is_guided_by_calls = is_guided_by_calls(pipeline, transformer)
        session.scheduler_position = partial(scheduler_position, pipeline)
        session.is_interrupted = lambda: bool(getattr(pipeline, "_interrupt", False))
        return session

    if not are_experts:
        (transformer,) = transformers.values()
        steps = partial(count_steps, pipeline) if num_sampling_steps is None else num_sampling_steps
        session = attach(transformer, steps)
        _watch(pipeline, transformers, session)
        return session
    counted = StepsOfExperts(pipeline)
    sessions: dict[str, BranchedSession] = {}
    try:
        for part, transformer in transformers.items():
            sessions[part] = attach(transformer, partial(counted.of, part), from_start=part == FIRST)
    except BaseException:
        for session in sessions.values():
            session.detach()
        raise
    _watch(pipeline, transformers, sessions[FIRST])
    return ExpertsSession(sessions, counted)


def _watch(pipeline: Any, cached: Mapping[str, nn.Module], session: BranchedSession) -> None:
    """Check at the start of each call of a pipeline, until a session is detached, that it runs the cached transformers.

    A pipeline that got another transformer calls nothing that the cache has wrapped. But all pipelines call their
    scheduler's `set_timesteps` before the first step.
    """
    scheduler = getattr(pipeline, "scheduler", None)
    if scheduler is None:  # of a modular pipeline, which loads it later
        return
    original, detach = scheduler.set_timesteps, session.on_detach
    patches, watched = Patches(), dict(cached)

    def set_timesteps(*args: Any, **kwargs: Any) -> Any:
        if watched:
            check_transformers(pipeline, watched)
        return original(*args, **kwargs)

    def on_detach() -> None:
        watched.clear()  # the cache of another pipeline with this scheduler may have wrapped the wrapper
        patches.restore()
        detach()

    wrapper = Wrapper(scheduler, "set_timesteps", set_timesteps)
    # pipelines read from its signature whether it takes sigmas
    patches.set(scheduler, "set_timesteps", update_wrapper(wrapper, original))
    session.on_detach = on_detach


def check_transformers(pipeline: Any, cached: Mapping[str, nn.Module]) -> None:
    """Raise ValueError if a pipeline has a transformer that is none of the cached ones and contains none of them."""
    for part, transformer in loaded_transformers(pipeline).items():
        if not any(module is one for module in transformer.modules() for one in cached.values()):
            raise ValueError(
                f"the {part} of this {type(pipeline).__name__} was replaced after apply_cache, so that it would run "
                "without the cache: detach the session, and apply the cache again"
            )


def _found(pipeline: Any, requested: Requested) -> SpeedupSettings:
    """Return the settings of a pipeline for the requested speedup.

    Raises:
        ValueError: there are none.
    """
    transformers: list[Any] = list(transformers_of(pipeline).values())
    if len(transformers) > 1:
        if requested.policy == "forecastcache":
            raise ValueError(
                f"{type(pipeline).__name__} has two transformers, for which no profile of ForecastCache is calibrated: "
                "set policy='adacache', or pass ForecastCacheConfig(speedup=X) to run without a profile"
            )
        requested = replace(requested, policy="adacache")
    kind, structure = type(transformers[0]).__name__, transformers[0].config
    return requested.found(identity_of_pipeline(pipeline.name_or_path or "", kind, structure))


def check_corrector(pipeline: Any, config: CacheConfig) -> None:
    """Raise ValueError if the settings have a corrector that the pipeline's scheduler does not allow."""
    if not config.corrector:
        return
    if (known := base_among(pipeline, NO_CORRECTOR)) is not None:
        name = type(pipeline).__name__
        raise ValueError(f"no corrector fits {name}, which {NO_CORRECTOR[known]}: set corrector=0")
    check_scheduler(pipeline.scheduler)
