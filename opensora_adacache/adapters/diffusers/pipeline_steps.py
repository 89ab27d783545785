"""What a diffusers pipeline says about the steps of its current call."""

from __future__ import annotations

from typing import Any

from opensora_adacache.adapters.schedulers import output_weights

COUNT_ALL_CHUNKS = ("AnyFlowFARPipeline",)
"""Autoregressive pipelines whose `num_timesteps` counts the steps of all chunks; each chunk is a run."""


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
