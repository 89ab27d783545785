"""Distinguishes the calls of a model that belong to one step when a pipeline does not name its guidance branches."""

from __future__ import annotations

import torch
from torch import Tensor


class TwinCalls:
    """Counts the calls of one step: guidance, or a video in tiles, calls the model again before the scheduler steps.

    A pipeline's scheduler tells how many steps it has taken, which settles it. Of a transformer by itself the tensors
    are compared: another call of the step passes the same latents, or the same timestep, again. If a pipeline creates
    new tensors for each call, the values are compared, at each call on the CPU. On another device that would require
    waiting, so they are compared at the second call of a run, and later calls are assumed to follow the same pattern.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Drop the state of the run."""
        self._latents: Tensor | None = None
        self._timestep: Tensor | None = None
        self._versions: tuple[int | None, int | None] = (None, None)
        self._position: int | None = None
        self._has_stepped = False
        self._scheduler_counts = True
        self._num_calls = 0
        self._place = 0
        self._alternates = False

    def name_of(self, latents: Tensor, timestep: Tensor, position: int | None = None) -> str:
        """Return the name of a call's branch: "" for the first call of a step, then "call 2", "call 3", …

        Args:
            latents: input of the model.
            timestep: its timestep.
            position: number of steps that the scheduler has taken; None if it is unknown.
        """
        self._place = self._place + 1 if self._is_twin(latents, timestep, position) else 0
        # kept alive, so that no other tensor reuses their memory while they are compared
        self._latents, self._timestep, self._position = latents, timestep, position
        self._versions = _version(latents), _version(timestep)
        self._num_calls += 1
        return f"call {self._place + 1}" if self._place else ""

    def _is_twin(self, latents: Tensor, timestep: Tensor, position: int | None) -> bool:
        before, time_before = self._latents, self._timestep
        if before is None or time_before is None:
            return False
        if _is_same(before, latents, self._versions[0]):
            return True
        if position is not None and self._scheduler_counts:
            return self._waits_for_step(time_before, timestep, position)
        if _is_same(time_before, timestep, self._versions[1]):
            return True
        if before.shape != latents.shape:
            return False
        if latents.device.type == "cpu":
            return torch.equal(before, latents) and torch.equal(time_before, timestep)
        if self._num_calls == 1:
            self._alternates = bool((before == latents).all() & (time_before == timestep).all())
        return self._alternates and self._place == 0

    def _waits_for_step(self, time_before: Tensor, timestep: Tensor, position: int) -> bool:
        """Return whether the scheduler has taken no step since the latest call.

        A loop of the user's own may never let it take one. So until the first one the timesteps, which fall from step
        to step, must be equal too.
        """
        if position != self._position:
            self._has_stepped = True
            return False
        if self._has_stepped:
            return True
        is_twin = torch.equal(time_before, timestep)
        if self._num_calls == 1:
            self._alternates = is_twin
        self._scheduler_counts = is_twin
        return is_twin


def _version(x: Tensor) -> int | None:
    """Return a number that rises whenever a tensor is written to; None in inference mode, where torch has none."""
    return None if x.is_inference() else x._version


def _is_same(before: Tensor, now: Tensor, version_before: int | None) -> bool:
    """Return whether this is the tensor of the latest call, and nobody has written to it since."""
    in_place = before is now or (before.data_ptr() == now.data_ptr() and before.stride() == now.stride())
    return in_place and _version(now) == version_before is not None
