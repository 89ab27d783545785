"""A denoising step as a run shows it: to progress bars, previews and apps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DenoisingStep:
    """A step of a batch that has just finished, as `ClipMaker.denoise` passes it to its callback.

    Attributes:
        index: index of the step, from 0, counted through all loops.
        num_steps: number of steps of the batch.
        computed: whether blocks ran, for each video, or once for a batch that decides together or has no cache.
        preview: function that decodes the middle frame of each video (of the current loop) as it would look if the
            model's output stayed as it is: float32 [B, 3, H, W] on the CPU, not clamped to -1..1. It can be called
            until the callback returns, in the process that leads its team, and takes no random numbers from the run.
            It raises a ValueError if the latents of this pipeline cannot be decoded before its end.
        distances: what the policy measured, for each entry of `computed`; None if nothing. Empty without a cache. With
            several guidance branches that decide for themselves, these are the values of the first one.
        motions: shaped motion, for each entry of `computed`; None if nothing was measured. Empty without a cache.
    """

    index: int
    num_steps: int
    computed: tuple[bool, ...]
    preview: Callable[[], Tensor] = field(repr=False)
    distances: tuple[float | None, ...] = ()
    motions: tuple[float | None, ...] = ()
