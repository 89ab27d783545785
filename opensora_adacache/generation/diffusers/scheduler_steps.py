"""Watches the steps of a pipeline's scheduler: every pipeline takes them, not every one has a callback."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from opensora_adacache.adapters.bases import base_among
from opensora_adacache.adapters.patches import wrapped


@dataclass(frozen=True)
class SchedulerStep:
    """A step of a scheduler that has just finished.

    Attributes:
        index: index of the step, from 0.
        num_steps: number of steps of this run.
        scheduler: the scheduler.
        arguments: arguments of its step by name.
        outputs: what its step returned; first the latents.
    """

    index: int
    num_steps: int
    scheduler: Any = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)
    outputs: tuple[Tensor, ...] = field(repr=False)

    def final_latents(self) -> Tensor:
        """Return the model's estimate of the final latents, or the current ones if the scheduler has none.

        DDIM, CogVideoX's and the Euler schedulers return their estimate; DPM++ and UniPC keep it as the converted
        output of the model. On a rectified flow with the noise levels σ it is x + (σₙ − σ) v, where σₙ is that of clean
        latents: 0, or 1 for Mochi, which counts backwards.
        """
        scheduler = self.scheduler
        if len(self.outputs) > 1:
            return self.outputs[1]
        if _keeps_estimates(scheduler):
            return scheduler.model_outputs[-1]
        if base_among(scheduler, ("FlowMatchEulerDiscreteScheduler",)):
            sample, levels = self.arguments["sample"].float(), scheduler.sigmas
            distance = (levels[-1] - levels[scheduler.step_index - 1]).to(sample)
            return sample + distance * self.arguments["model_output"]
        return self.outputs[0]


@contextmanager
def watched_steps(scheduler: Any, callback: Callable[[SchedulerStep], object]) -> Iterator[None]:
    """Call a function after each step of a scheduler in a ``with`` block; copies of the scheduler are not watched.

    Args:
        scheduler: scheduler of a pipeline.
        callback: the function. An exception that it raises leaves the pipeline's call.
    """
    count, signature = 0, inspect.signature(scheduler.step)

    def watch(original: Callable) -> Callable:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            result = original(*args, **kwargs)
            outputs = result if isinstance(result, tuple) else tuple(result.values())
            given = signature.bind(*args, **kwargs).arguments
            callback(SchedulerStep(count, len(scheduler.timesteps), scheduler, given, outputs))
            count += 1
            return result

        return step

    with wrapped(scheduler, "step", watch):
        scheduler.step.__signature__ = signature  # pipelines look up which arguments it takes
        yield


def _keeps_estimates(scheduler: Any) -> bool:
    """Return whether a scheduler converts outputs of the model to estimates of the final latents, and keeps them."""
    config, known = scheduler.config, base_among(scheduler, ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler"))
    if known == "DPMSolverMultistepScheduler":
        return config.algorithm_type in ("dpmsolver++", "sde-dpmsolver++")
    return known is not None and config.predict_x0
