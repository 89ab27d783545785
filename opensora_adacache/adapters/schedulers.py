"""What the corrector must know of a diffusers scheduler: how far the output of each step moves the final latents.

n steps, x latents, v what the model returns (a velocity, a noise or a sample).

Every scheduler named here is linear: with the same noise, its step is

    x₁ = a₀ x₀ + b₀ v₀        xₛ₊₁ = aₛ xₛ + Σⱼ bₛⱼ vₛ₋ⱼ

with numbers a and b that depend on the noise levels alone. The equations of the supported ones, with σ the noise level
of a rectified flow, and for the others ᾱ the cumulated signal, φ = atan √((1 − ᾱ)/ᾱ) and primes for the next step:

- FlowMatchEuler: x' = x + (σ' − σ) v.
- DDIM, noise: x'/√ᾱ' = x/√ᾱ + (tan φ' − tan φ) v, an Euler step of x/√ᾱ over tan φ.
- DDIM, v-prediction (CogVideoXDDIM): x' = cos(φ' − φ) x + sin(φ' − φ) v.
- DPM++ and UniPC: the output becomes a sample m = x − σ v (flow prediction), √ᾱ x − √(1 − ᾱ) v (v-prediction) or
  (x − √(1 − ᾱ) v)/√ᾱ (noise), and x' = (σ'/σ) x + α' (1 − e^(−h)) (m + D/2) with the difference D of the last two m,
  whose coefficients depend on the steps in log(α/σ), h; UniPC's corrector moves x by another difference of this kind.
- CogVideoXDPM, EulerAncestral and the stochastic forms of the others add noise that does not depend on the outputs.

An error e of the output at step s therefore moves the final latents by hₛ·e, hₛ = ∂xₙ/∂vₛ, if the later outputs stay as
they are. The weights h are what the scheduler does to impulses: a copy of it takes all steps once, on n numbers of
which number s gets v = 1 at step s and 0 at the others. This is exact for several-step schedulers too, whose outputs
act on later steps as well.

What moves the final latents by the accumulated error of skipped steps, d = Σ hₛ eₛ, back at a computed step c is the
output v − d / h_c. On a rectified flow hₛ is the length of the step, which is the corrector as `Corrector` describes it
for samplers without a scheduler. After the correction the latents of a one-step scheduler are right from the next step
on; those of several-step schedulers become right as the outputs before c leave their history, and the final ones are.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from opensora_adacache.caching.contract import CacheConfig

LINEAR: dict[str, tuple[str, ...]] = {
    "FlowMatchEulerDiscreteScheduler": (),
    "DDIMScheduler": ("clip_sample", "thresholding"),
    "CogVideoXDDIMScheduler": (),
    "CogVideoXDPMScheduler": (),
    "DPMSolverMultistepScheduler": ("thresholding",),
    "UniPCMultistepScheduler": ("thresholding",),
    "EulerDiscreteScheduler": (),
    "EulerAncestralDiscreteScheduler": (),
}
"""Schedulers whose steps are linear in the outputs of the model → keys of their config that must be off for that. Each
was tested with its real class."""

RECTIFIED_FLOW = "rectified flow"
"""In place of a scheduler: Euler steps along a rectified flow, with timesteps from 1000 to 0."""

OutputWeights = Callable[[int], Sequence[float]]
"""Number of steps of a run that begins → weights of its steps."""


def weights_of(config: CacheConfig, scheduler: Any) -> OutputWeights | None:
    """Return what gives the weights of a run to the corrector of some settings, or None where none are needed.

    Args:
        config: settings of the cache.
        scheduler: scheduler of diffusers, "rectified flow", or None if it is unknown.

    Raises:
        ValueError: the settings have a corrector, and the scheduler is unknown or cannot be used with it.
    """
    if not config.corrector or scheduler == RECTIFIED_FLOW:
        return None
    if scheduler is None:
        raise ValueError(
            "a corrector must know the scheduler, which a transformer does not: give apply_cache the pipeline, or "
            f"scheduler=pipe.scheduler (or {RECTIFIED_FLOW!r} for Euler steps along one), or set corrector=0"
        )
    check_scheduler(scheduler)
    return partial(output_weights, scheduler)


def check_scheduler(scheduler: Any) -> None:
    """Raise ValueError, in one line, if a corrector cannot be used with a scheduler."""
    name = repr(scheduler) if isinstance(scheduler, str) else type(scheduler).__name__
    if name not in LINEAR:
        raise ValueError(
            f"a corrector needs a scheduler whose steps are linear in the model's outputs ({', '.join(LINEAR)}), "
            f"got {name}: use one of these, or set corrector=0"
        )
    for key in LINEAR[name]:
        if scheduler.config.get(key):
            raise ValueError(
                f"a corrector needs a scheduler that does not clip its samples, got {name} with {key}=True: set "
                f"corrector=0, or {key}=False in the scheduler's config"
            )


def output_weights(scheduler: Any, num_steps: int, first: int | None = None) -> tuple[float, ...]:
    """Return how far the output of each step of a run moves the final latents, hₛ = ∂xₙ/∂vₛ.

    Call it after the scheduler's `set_timesteps` and before its step for the first call of the run. Runs the scheduler
    on small tensors on the CPU and leaves it as it is. Stochastic DDIM (eta above 0) is taken as deterministic.

    Args:
        scheduler: the scheduler.
        num_steps: number of steps of the run.
        first: index of the run's first step among the scheduler's `timesteps`, from 0, for schedulers that neither
            count their steps nor were told where to begin. With None the run takes the last timesteps.

    Raises:
        ValueError: the scheduler is not linear, or has fewer steps left than the run.
    """
    check_scheduler(scheduler)
    first = next_step(scheduler, max(len(scheduler.timesteps) - num_steps, 0) if first is None else first)
    timesteps = scheduler.timesteps[first : first + num_steps]
    if len(timesteps) != num_steps:
        raise ValueError(
            f"a run of {num_steps} steps has {len(timesteps)} timesteps left in its {type(scheduler).__name__}: pass "
            "apply_cache the number of steps that the scheduler takes"
        )
    impulses = torch.eye(num_steps)
    # the same noise in both, so that their difference is what the outputs do
    moved, still = (_final_latents(_restarted(scheduler, first), timesteps, out) for out in (impulses, impulses * 0))
    weights = tuple((moved - still).tolist())
    if not all(map(math.isfinite, weights)):
        raise ValueError(
            f"{type(scheduler).__name__} with this config divides by a signal of 0, so outputs have no finite weight "
            "for a corrector: set corrector=0"
        )
    return weights


def next_step(scheduler: Any, otherwise: int = 0) -> int:
    """Return the index of a scheduler's next step, from 0: of one that has taken none, where it was told to begin.

    Args:
        scheduler: the scheduler.
        otherwise: index for a scheduler that knows neither.
    """
    known = (getattr(scheduler, name, None) for name in ("step_index", "begin_index"))
    return next((index for index in known if index is not None), otherwise)


def _restarted(scheduler: Any, first: int) -> Any:
    """Return a copy of a scheduler on the CPU that is about to take a step and remembers no earlier one."""
    copied = copy.deepcopy(scheduler)
    for name, value in vars(copied).items():
        if isinstance(value, Tensor):
            setattr(copied, name, value.cpu())
    if hasattr(copied, "_step_index"):
        copied._step_index, copied._begin_index = None, first
    for name, value in (("lower_order_nums", 0), ("last_sample", None)):
        if hasattr(copied, name):
            setattr(copied, name, value)
    if hasattr(copied, "model_outputs"):
        copied.model_outputs = [None] * len(copied.model_outputs)
    return copied


def _final_latents(scheduler: Any, timesteps: Tensor, outputs: Tensor) -> Tensor:
    """Return the latents [m] after a run from 0 in which the model returns `outputs` [n, m], with noise of one seed."""
    timesteps = timesteps.cpu()
    generator = torch.Generator().manual_seed(0)
    takes = inspect.signature(scheduler.step).parameters
    further = {"generator": generator} if "generator" in takes else {}
    x, sample = torch.zeros(1, outputs.shape[1], 1), None
    for index, (t, out) in enumerate(zip(timesteps, outputs, strict=True)):
        out = out[None, :, None]
        if "old_pred_original_sample" in takes:  # CogVideoX's DPM++, whose pipeline holds the last sample
            before = timesteps[index - 1] if index else None
            x, sample = scheduler.step(out, sample, t, before, x, **further, return_dict=False)
            continue
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)
        x = scheduler.step(out, t, x, **further, return_dict=False)[0]
    return x.flatten()
