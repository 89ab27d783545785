"""When ForecastCache computes next, for each video (or for a batch that decides together), on plain numbers.

A forecast made over a gap of G steps missed the residual by a relative error e. The next one is expected to miss it by
e·(k/G)² after k steps: near the last computed step it is nearly right, whatever its gains. An error at step s moves the
video by `sensitivity` at s; what a stretch of skipped steps gathers is Σ sensitivity · error / n. The next computed
step is the last one before which that stays within a tolerance: given, or the one with which the rest of the run takes
exactly the steps that are left of a budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from opensora_adacache.caching.forecast_config import ForecastCacheConfig, first_steps

LONGEST_GAP_SHARE = 1 / 3
"""Most steps from one computed step to the next, as a share of all: no error was ever measured over a longer gap."""
_BISECTIONS = 24


class ForecastSchedule:
    """When one video computes; the steps between need no look at the device.

    The first steps compute (`first_steps`).

    Args:
        config: the settings.
        num_steps: n, the denoising steps of the run.
    """

    def __init__(self, config: ForecastCacheConfig, num_steps: int) -> None:
        self.num_steps = num_steps
        self.next_step = 1
        self.first_steps = first_steps(num_steps)
        self._sensitivity = resample(config.sensitivity, num_steps)
        self._growth = resample(config.growth, num_steps)
        self._longest = max(1, math.ceil(LONGEST_GAP_SHARE * num_steps))
        self._last_computed = 0
        self._ratios: list[float] = []
        self._expected = 0.0

    @property
    def rate(self) -> int:
        """Steps from the last computed one to the next."""
        return self.next_step - self._last_computed

    @property
    def num_possible(self) -> int:
        """The most steps that can still compute."""
        return max(self.num_steps - self.next_step + 1, 0)

    def end_computed_step(self, step: int, error: float | None) -> None:
        """Take the relative error of the forecast for a computed step, None for the first one.

        One measurement is noisy, so it counts half, in the logarithm; the other half is the calibrated growth at this
        step, scaled by how this video's errors compared with the calibrated ones so far. The next step computes unless
        `wait` puts it off.
        """
        gap, self._last_computed, self.next_step = step - self._last_computed, step, step + 1
        if error is None or step < self.first_steps:
            return
        measured, calibrated = error_growth(error, gap, self.num_steps), self._growth[step - 1]
        self._ratios.append(math.log(max(measured, 1e-12) / calibrated))
        self._expected = calibrated * math.exp((self._ratios[-1] + fmean(self._ratios)) / 2)

    def gap(self, tolerance: float) -> int:
        """Return the longest gap after the last computed step whose skipped steps gather at most the tolerance."""
        if self._last_computed < self.first_steps:
            return 1
        return self._gap(self._last_computed, self._expected, tolerance)

    def wait(self, gap: int) -> None:
        """Compute next after that gap."""
        self.next_step = self._last_computed + gap

    def count(self, start: int, tolerance: float) -> int:
        """Return how many steps a tolerance would compute if the next one were `start`, by calibrated errors."""
        count, scale = 0, math.exp(fmean(self._ratios)) if self._ratios else 1.0
        while start <= self.num_steps:
            count += 1
            start += self._gap(start, scale * self._growth[start - 1], tolerance)
        return count

    def _gap(self, step: int, growth: float, tolerance: float) -> int:
        gathered, gap, n = 0.0, 1, self.num_steps
        while gap < self._longest and step + gap <= n:
            gathered += self._sensitivity[step + gap - 1] * growth * (gap / n) ** 2 / n
            if gathered > tolerance:
                break
            gap += 1
        return gap


class ForecastBudget:
    """Computed steps that videos share: exactly as many as are given are spent.

    Args:
        schedules: of the videos.
        total: K times their number.
    """

    def __init__(self, schedules: Sequence[ForecastSchedule], total: int) -> None:
        self.schedules = schedules
        self.left = total

    def end_step(self, step: int, computed: Sequence[bool]) -> None:
        """Set the gaps of the videos that computed a step, so that what is left is spent evenly in error.

        The tolerance is the least one with which all the rest takes no more than is left.
        """
        self.left -= sum(computed)
        if step < self.schedules[0].first_steps or not any(computed):
            return
        deciding = [schedule for schedule, did in zip(self.schedules, computed, strict=True) if did]
        waiting = [schedule for schedule, did in zip(self.schedules, computed, strict=True) if not did]
        tolerance = self._tolerance(deciding, waiting)
        reserved = sum(schedule.num_possible > 0 for schedule in waiting)
        possible = sum(schedule.num_possible for schedule in self.schedules)
        for schedule in deciding:
            later = schedule.num_possible
            if self.left == reserved:
                gap = later + 1
            else:
                # what the others cannot spend is left for this one
                gap = min(schedule.gap(tolerance), later + 1 - max(self.left - (possible - later), 0))
            schedule.wait(gap)
            reserved += schedule.num_possible > 0
            possible -= later - schedule.num_possible

    def _tolerance(self, deciding: Sequence[ForecastSchedule], waiting: Sequence[ForecastSchedule]) -> float:
        low, high = -40.0, 10.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            tolerance = math.exp(middle)
            count = sum(schedule.count(schedule.next_step, tolerance) for schedule in waiting)
            count += sum(s.count(s.next_step - 1 + s.gap(tolerance), tolerance) for s in deciding)
            low, high = (middle, high) if count > self.left else (low, middle)
        return math.exp(high)


def error_growth(error: float, gap: int, num_steps: int) -> float:
    """Return the relative error of a forecast per squared share of the run that it was made over.

    >>> error_growth(0.1, 3, 30)
    10.0
    """
    return error * (num_steps / gap) ** 2


def resample(values: Sequence[float], num_steps: int) -> list[float]:
    """Return values given at equally spaced shares of a run, for each of its steps, by linear interpolation.

    Value i of m is that of share (i + ½) / m; beyond the first and the last one they go on as they are.

    >>> resample([1.0, 3.0], 4)
    [1.0, 1.5, 2.5, 3.0]
    """
    found = []
    for step in range(num_steps):
        place = (step + 0.5) / num_steps * len(values) - 0.5
        low = min(max(math.floor(place), 0), len(values) - 1)
        high = min(low + 1, len(values) - 1)
        part = min(max(place - low, 0.0), 1.0)
        found.append(values[low] * (1 - part) + values[high] * part)
    return found
