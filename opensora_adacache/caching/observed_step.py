"""What a session shows of a call of the model."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class ObservedStep:
    """A call of the model that has just finished, for progress bars, previews and live schedules.

    Attributes:
        index: index of the step, from 0.
        timestep: [R] or [1], on its device; the callback of a sampler receives it as a number.
        latents: input of the call [R, …]. The sampler continues to use them, so clone them before changing them.
        computed: whether the blocks ran, for each video (or for a batch that decides together).
        distances: what the policy measured in the step, for each of them; None if nothing. See `StepRecord`.
        motions: shaped motion in the step, for each of them; None if nothing was measured.
    """

    index: int
    timestep: Tensor
    latents: Tensor = field(repr=False)
    computed: tuple[bool, ...] = ()
    distances: tuple[float | None, ...] = ()
    motions: tuple[float | None, ...] = ()
