"""The transformers of a diffusers pipeline, each of which takes some of the steps, as the experts of Wan 2.2 do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from opensora_adacache.adapters.diffusers.pipeline_steps import PipelineCalls, count_steps

FIRST, SECOND = "transformer", "transformer_2"
OTHER = "transformer_ref"
"""Transformer that takes all steps of some calls in place of the first one: in MiniMax-H3, those with references."""


def loaded_transformers(pipeline: Any) -> dict[str, nn.Module]:
    """Return the transformers that a pipeline has at present, by the names of their components."""
    named = ((name, getattr(pipeline, name, None)) for name in (FIRST, SECOND, OTHER))
    return {name: module for name, module in named if module is not None}


def transformers_of(pipeline: Any) -> dict[str, nn.Module]:
    """Return the transformers of a pipeline by the names of their components.

    Raises:
        ValueError: it has none.
    """
    found = loaded_transformers(pipeline)
    if not found and hasattr(pipeline, FIRST) and hasattr(pipeline, "load_components"):
        raise ValueError(
            f"the transformer of this {type(pipeline).__name__} is not loaded: call its load_components() first"
        )
    if not found:
        raise ValueError(f"{type(pipeline).__name__} has no transformer, and apply_cache caches transformers only")
    return found


class StepsOfExperts:
    """Counts the steps that each of a pipeline's transformers takes in its current call.

    The first transformer takes those at timesteps from ``boundary_ratio`` times the number of training timesteps on,
    the second one the others. Without a boundary the first takes all. Timesteps are read from the device once per call
    of the pipeline, not at each step.

    Args:
        pipeline: the pipeline.

    Attributes:
        num_first: steps of the first transformer in the latest call.
        num_all: all steps of that call.
        on_new_call: called at the first step of each call of the pipeline, once its steps are counted.
    """

    def __init__(self, pipeline: Any) -> None:
        self.num_first = self.num_all = 0
        self.on_new_call: Callable[[], None] = lambda: None
        self._pipeline = pipeline
        self._calls = PipelineCalls(pipeline)

    def of(self, name: str) -> int:
        """Return the number of steps of a transformer, by the name of its component."""
        if self._calls.begins():
            self._count()
            self.on_new_call()
        if name == SECOND:
            return self.num_all - self.num_first
        return self.num_first if name == FIRST else self.num_all

    def before(self, name: str) -> int:
        """Return the number of steps that are taken before those of a transformer, by the name of its component."""
        return self.num_first if name == SECOND else 0

    def release(self) -> None:
        """Forget the pipeline; the numbers of the latest call are kept."""
        self._pipeline, self._calls = None, PipelineCalls(None)

    def _count(self) -> None:
        boundary = getattr(self._pipeline.config, "boundary_ratio", None)
        if boundary is None:
            self.num_first = self.num_all = count_steps(self._pipeline)
            return
        timesteps = self._pipeline.scheduler.timesteps
        self.num_first = int((timesteps >= boundary * self._pipeline.scheduler.config.num_train_timesteps).sum())
        self.num_all = len(timesteps)
