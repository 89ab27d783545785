"""What a diffusers pipeline says about the steps of its current call."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline
from torch import nn

from opensora_adacache.adapters.bases import base_among
from opensora_adacache.adapters.schedulers import next_step, output_weights

STEPS_LEFT_OUT = {
    "AnyFlowFARPipeline": 0,
    "LTX2DFRTemporalRefinePipeline": 1,
    "LTXI2VLongMultiPromptPipeline": 1,
}
"""Pipelines that make a video in chunks, windows or tiles, each of which is a run, and whose `num_timesteps` is not the
number of its steps → how many of the scheduler's last timesteps a run leaves out."""

GUIDED_BY_SCALE = (
    "AllegroPipeline",
    "CogVideoXFunControlPipeline",
    "CogVideoXImageToVideoPipeline",
    "CogVideoXPipeline",
    "CogVideoXVideoToVideoPipeline",
    "ConsisIDPipeline",
)
"""Pipelines without a `do_classifier_free_guidance`, whose guidance is on if its scale is above 1."""

GUIDED_BY_CALLS = (
    "ChronoEditTransformer3DModel",
    "Cosmos3OmniTransformer",
    "CosmosTransformer3DModel",
    "HeliosTransformer3DModel",
    "HunyuanVideo15Transformer3DModel",
    "HunyuanVideoFramepackTransformer3DModel",
    "HunyuanVideoTransformer3DModel",
    "Kandinsky5Transformer3DModel",
    "Kandinsky6Transformer3DModel",
    "MotifVideoTransformer3DModel",
    "SkyReelsV2Transformer3DModel",
    "WanAnimate2Transformer3DModel",
    "WanAnimateTransformer3DModel",
    "WanTransformer3DModel",
    "WanVACETransformer3DModel",
)
"""Transformers that their pipelines call once for each guidance branch, whether or not they name it."""


def is_guided_by_calls(pipeline: Any, transformer: nn.Module) -> bool:
    """Return whether a pipeline makes a call for each guidance branch, so that all rows of a batch are videos.

    Modular pipelines do, as their guiders prepare the branches one by one.
    """
    return not isinstance(pipeline, DiffusionPipeline) or base_among(transformer, GUIDED_BY_CALLS) is not None


def is_unguided(pipeline: Any) -> bool:
    """Return whether a pipeline says that its current call has no guidance."""
    guided = getattr(pipeline, "do_classifier_free_guidance", None)
    if guided is None and base_among(pipeline, GUIDED_BY_SCALE):
        guided = pipeline.guidance_scale > 1
    return guided is False


def scheduler_position(pipeline: Any) -> int | None:
    """Return how many steps the scheduler has taken in the current call; None if it does not count them."""
    return next_step(pipeline.scheduler) if hasattr(pipeline.scheduler, "step_index") else None


class PipelineCalls:
    """Notices each call of a pipeline, and each chunk of an autoregressive one, by the scheduler's new timesteps.

    All of them call the scheduler's `set_timesteps`, which makes a new tensor. So no device is read.

    Args:
        pipeline: the pipeline.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._timesteps: Any = None

    def begins(self) -> bool:
        """Return whether a call or a chunk has begun since this was last asked."""
        before, self._timesteps = self._timesteps, self._pipeline.scheduler.timesteps
        return self._timesteps is not before


def count_steps(pipeline: Any) -> int:
    """Return the number of model calls of each guidance branch in the pipeline's current call.

    Most pipelines provide it as `num_timesteps`, which excludes the steps that a `strength` skips; for the others it is
    the length of the scheduler's `timesteps`.
    """
    if (known := base_among(pipeline, STEPS_LEFT_OUT)) is not None:
        return len(pipeline.scheduler.timesteps) - STEPS_LEFT_OUT[known]
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

    Returns:
        A weight for each step. A branch whose guidance is switched on later takes fewer; the last weights are then 0.
    """
    scheduler = pipeline.scheduler
    begun = next_step(scheduler)
    num_left = len(scheduler.timesteps) - begun
    if begun and num_left < num_steps:
        return (*output_weights(scheduler, num_left), *[0.0] * (num_steps - num_left))
    return output_weights(scheduler, num_steps, 0 if from_start else None)
