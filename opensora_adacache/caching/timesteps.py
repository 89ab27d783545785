"""The timesteps of a run as numbers: they must fall, which tells where a run ends and whether steps were lost."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class Timesteps:
    """Timesteps of the calls of a model; they stay on the device until something is read anyway.

    A rise within a run means that another run began; a fall at its start, that the sampler goes on beyond the number
    of steps that it was said to take. Equal ones pass: half precision cannot tell neighbouring timesteps of a long run
    apart.

    Args:
        num_sampling_steps: n.
        end_of_previous: last timestep of the run before, where there was one.
    """

    def __init__(self, num_sampling_steps: int, end_of_previous: float | None) -> None:
        self.num_sampling_steps = num_sampling_steps
        self.end_of_previous = end_of_previous
        self.unread: list[Tensor] = []
        self.last: float | None = None

    def add(self, timestep: Tensor) -> None:
        """Take the timestep [R] or [1] of the step that opens."""
        self.unread.append(timestep.detach().flatten()[:1])

    @property
    def current(self) -> float | None:
        """The timestep of the open step, if it has been read."""
        return None if self.unread else self.last

    def read(self, step: int) -> None:
        """Read those that are unread, which synchronises with a device, and check them."""
        self.check([float(timestep) for timestep in self.unread], step)

    def check(self, values: Sequence[float], step: int) -> None:
        """Take the unread timesteps as numbers, up to that of `step`.

        Raises:
            ValueError: a timestep rose within the run, or fell from one run to the next.
        """
        self.unread.clear()
        for value in values:
            if self.last is None and self.end_of_previous is not None and value < self.end_of_previous:
                raise ValueError(
                    f"the sampler goes on to timestep {value:g} after {self.num_sampling_steps} steps: "
                    "give apply_cache the sampler's num_sampling_steps"
                )
            if self.last is not None and value > self.last:
                raise ValueError(
                    f"timestep went from {self.last:g} to {value:g} by step {step} of {self.num_sampling_steps}, "
                    "it must fall: give apply_cache the sampler's num_sampling_steps, and call session.reset() "
                    "after an interrupted run"
                )
            self.last = value
