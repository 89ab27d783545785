"""The transformers of a diffusers pipeline, each of which takes some of the steps, as the experts of Wan 2.2 do."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers.attach import attach_diffusers
from opensora_adacache.adapters.diffusers.pipeline import check_corrector, count_steps, weights_of_run
from opensora_adacache.caching.contract import CacheConfig

FIRST, SECOND = "transformer", "transformer_2"


def transformers_of(pipeline: Any) -> dict[str, nn.Module]:
    """Return the transformers of a pipeline by the names of their components.

    Raises:
        ValueError: it has none.
    """
    named = ((name, getattr(pipeline, name, None)) for name in (FIRST, SECOND))
    found = {name: module for name, module in named if module is not None}
    if not found:
        raise ValueError(f"{type(pipeline).__name__} has no transformer, and apply_cache caches transformers only")
    return found


def attach_to_transformers(pipeline: Any, config: CacheConfig) -> dict[str, BranchedSession]:
    """Attach a session to each transformer of a pipeline, by the names of their components.

    Each counts its own steps, which are read from the scheduler when a run begins.

    Raises:
        ValueError: the settings do not fit one of the models. Nothing stays attached.
    """
    sessions: dict[str, BranchedSession] = {}
    transformers = transformers_of(pipeline)
    check_corrector(pipeline, config)
    try:
        for name, module in transformers.items():
            sessions[name] = attach_diffusers(module, config, StepsOfExpert(pipeline, name))
            is_first = name == FIRST and SECOND in transformers
            sessions[name].output_weights = partial(weights_of_run, pipeline, from_start=is_first)
    except BaseException:
        for session in sessions.values():
            session.detach()
        raise
    return sessions


class StepsOfExpert:
    """Counts the steps that a transformer takes in the pipeline's current call.

    The first transformer takes those at timesteps from ``boundary_ratio`` times the number of training timesteps on,
    the second one the others. Without a boundary the first takes all. Timesteps are read from the device once per call
    of the pipeline, not at each step.
    """

    def __init__(self, pipeline: Any, name: str) -> None:
        self._pipeline = pipeline
        self._name = name
        self._timesteps: Tensor | None = None
        self._number = 0

    def __call__(self) -> int:
        boundary = getattr(self._pipeline.config, "boundary_ratio", None)
        if boundary is None:
            return count_steps(self._pipeline)
        scheduler = self._pipeline.scheduler
        if scheduler.timesteps is not self._timesteps:
            first = int((scheduler.timesteps >= boundary * scheduler.config.num_train_timesteps).sum())
            self._timesteps = scheduler.timesteps
            self._number = first if self._name == FIRST else len(scheduler.timesteps) - first
        return self._number
