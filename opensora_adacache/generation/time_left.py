"""Estimate how long the rest of a run takes, knowing that a reused step is shorter than a computed one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

# How many steps and batches count: the latest ones, so that a run that becomes slower is noticed.
_STEPS, _BATCHES = 1000, 20


class TimeLeft:
    """Learns from the steps of a run how long they take, and which steps of the following videos will compute.

    A step takes a + b·c seconds for each video of its batch, where c is the fraction of these videos that compute: a is
    the time of a reused step and a + b that of a computed one. The line is fitted to the measured steps by least
    squares. As long as all of them had the same c, every step is taken to last their mean. The very first step also
    loads kernels, so it counts only while there is no other.

    Args:
        planned: for each step of a video, whether it computes, if that is known before the run.
    """

    def __init__(self, planned: Sequence[bool] | None = None) -> None:
        self._planned = planned
        self._current: list[float] = []
        self._finished: deque[list[float]] = deque(maxlen=_BATCHES)  # the fractions of each batch
        self._measured: deque[tuple[float, float]] = deque(maxlen=_STEPS)
        self._first: tuple[float, float] | None = None

    def begin_batch(self) -> None:
        """Begin a batch: the next step is its first."""
        self._current = []

    def add_step(self, computed: float, seconds: float) -> None:
        """Add a finished step.

        Args:
            computed: fraction of the batch's videos that computed.
            seconds: its duration, divided by the number of these videos.
        """
        self._current.append(computed)
        if self._first is None:
            self._first = computed, seconds
        else:
            self._measured.append((computed, seconds))

    def end_batch(self) -> None:
        """End a batch; what its steps did is expected of the following ones."""
        self._finished.append(self._current)
        self._current = []

    def seconds(self, num_steps: int, num_videos: int, num_following: int) -> float | None:
        """Return the seconds that the steps of the current batch and of the following videos will take.

        Args:
            num_steps: number of steps of a video.
            num_videos: number of videos in the current batch.
            num_following: number of videos after it.

        Returns:
            The estimate, or None before the first step.

        >>> left = TimeLeft(planned=[True, False, False, True])
        >>> for computed, seconds in ((1, 9.0), (0, 1.0), (0, 1.0), (1, 4.0)):
        ...     left.add_step(computed, seconds)
        >>> left.seconds(4, 1, 2)  # two videos of 4 + 1 + 1 + 4 seconds
        20.0
        """
        if self._first is None:
            return None
        reused, difference = self._line()
        times = [reused + difference * self._expected(index) for index in range(num_steps)]
        return num_videos * sum(times[len(self._current) :]) + num_following * sum(times)

    def _line(self) -> tuple[float, float]:
        """Return the seconds of a reused step, and how many more a computed one takes."""
        measured = self._measured or [self._first or (1.0, 0.0)]
        count = len(measured)
        mean_computed = sum(computed for computed, _ in measured) / count
        mean_seconds = sum(seconds for _, seconds in measured) / count
        variance = sum((computed - mean_computed) ** 2 for computed, _ in measured)
        if variance == 0:
            return mean_seconds, 0.0
        covariance = sum((computed - mean_computed) * (seconds - mean_seconds) for computed, seconds in measured)
        slope = min(max(covariance / variance, 0.0), mean_seconds / mean_computed)  # no step takes less than no time
        return mean_seconds - slope * mean_computed, slope

    def _expected(self, index: int) -> float:
        """Return the expected fraction of videos that compute at a step.

        It is what the videos before did there, what the policy plans, or else what the steps until now did.
        """
        before = [batch[index] for batch in self._finished if index < len(batch)]
        if before:
            return sum(before) / len(before)
        if self._planned is not None and index < len(self._planned):
            return float(self._planned[index])
        return sum(self._current) / len(self._current) if self._current else 1.0
