"""The timesteps of a run as numbers. They must fall, which shows where a run ends and whether steps were lost."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor

from opensora_adacache.errors.family import AdaCacheWarning

REMEDY = (
    "pass apply_cache the sampler's num_sampling_steps (the model calls of each guidance branch), or the pipeline that "
    "you call"
)


class Timesteps:
    """Timesteps of the calls of a model; they stay on the device until something else is read.

    A rise within a run means that another run has begun. A fall at the start of a run means that the sampler takes more
    steps than `num_sampling_steps`. Equal timesteps are accepted, because half precision cannot distinguish
    neighbouring timesteps of a long run.

    Args:
        num_sampling_steps: n.
        end_of_previous: last timestep of the previous run, if it was completed.
    """

    def __init__(self, num_sampling_steps: int, end_of_previous: float | None) -> None:
        self.num_sampling_steps = num_sampling_steps
        self.end_of_previous = end_of_previous
        self.unread: list[Tensor] = []
        self.last: float | None = None
        self._last_index: int | None = None

    def add(self, timestep: Tensor, step_index: int | None) -> None:
        """Add the timestep [R] or [1] of the step that opens, and the pipeline's step index if it provides one.

        It is not copied, which would be work on every reused step: on a GPU, a loop that writes all timesteps into one
        tensor is not checked.
        """
        self.unread.append(timestep.detach().flatten()[:1])
        self._last_index = step_index

    def begins_anew(self, timestep: Tensor, step_index: int | None) -> bool:
        """Return whether a call is known to begin another run, without waiting for a device."""
        if step_index is not None and self._last_index is not None:
            return step_index <= self._last_index
        if timestep.device.type != "cpu" or self.unread or self.last is None:
            return False
        return float(timestep.flatten()[0]) > self.last

    @property
    def current(self) -> float | None:
        """The timestep of the open step, if it has been read."""
        return None if self.unread else self.last

    def read(self, step: int) -> None:
        """Read the unread timesteps, which synchronizes with the device, and check them."""
        self.check([float(timestep) for timestep in self.unread], step)

    def check(self, values: Sequence[float], step: int) -> None:
        """Receive the unread timesteps as numbers, up to that of `step`; warn if the sampler continues past the run.

        Raises:
            ValueError: a timestep rose within the run, so skipped steps used residuals of another video.
        """
        self.unread.clear()
        for value in values:
            if self.last is None and self.end_of_previous is not None and value < self.end_of_previous:
                warnings.warn(
                    f"the sampler goes on to timestep {value:g} after {self.num_sampling_steps} steps, which the cache "
                    f"treats as a new run: {REMEDY}",
                    AdaCacheWarning,
                    stacklevel=2,
                )
            if self.last is not None and value > self.last:
                raise ValueError(
                    f"timestep rose from {self.last:g} to {value:g} by step {step} of {self.num_sampling_steps}, but "
                    f"it must fall: {REMEDY}, and call session.reset() after an interrupted run"
                )
            self.last = value
