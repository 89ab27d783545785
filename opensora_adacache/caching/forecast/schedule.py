"""When ForecastCache computes next, for each video (or for a batch that decides together), using plain numbers.

Suppose that a forecast over an interval of G steps missed the residual by a relative error e. After k steps, the next
forecast is then expected to be off by e·(k/G)²: close to the last computed step it is nearly exact, whatever its gains
are. An error at step s changes the video in proportion to `sensitivity` at s, so a stretch of skipped steps costs
Σ sensitivity · error / n. The cost of a plan is the cost of its worst stretch. At each computed step, the best plan for
the rest of the run is computed again from the errors measured so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Protocol

LONGEST_INTERVAL_FRACTION = 1 / 3
"""Longest interval between computed steps that a tolerance allows, as a fraction of the run. No error has been measured
over a longer interval."""


class Profile(Protocol):
    """What a schedule needs to know about a model; `ForecastCacheConfig` provides it.

    Attributes:
        sensitivity: how much an error harms the video, at equally spaced fractions of the run.
        growth: relative error of a forecast per squared fraction of the run, at equally spaced fractions of the run.
        corrector: fraction of an error that the next computed step corrects.
    """

    @property
    def sensitivity(self) -> tuple[float, ...]: ...

    @property
    def growth(self) -> tuple[float, ...]: ...

    @property
    def corrector(self) -> float: ...


def first_steps(num_steps: int) -> int:
    """Return how many steps at the start of a run of n steps always compute.

    With fewer than four computed steps, no forecast with a measured gain can be compared with the true residual. On a
    small trained model, skipping the fourth step changed the content of some videos. A profile also has no data about
    the start: one measured with 30 steps has no forecast before the fourth step, where errors do the most harm. For
    this reason a tenth of the run computes.

    >>> first_steps(30), first_steps(100)
    (4, 10)
    """
    return min(max(4, round(num_steps / 10)), num_steps)


class StretchCosts:
    """Costs of every stretch of skipped steps, and of the best plans according to calibrated errors.

    Args:
        sensitivity: how much an error harms the video, for each step.
        growth: calibrated growth of the error of a forecast made at a step, for each step.
        last_factor: factor on the cost of the last stretch, which no computed step follows that could correct it.
    """

    def __init__(self, sensitivity: Sequence[float], growth: Sequence[float], last_factor: float) -> None:
        self.growth = growth
        self.num_steps = n = len(sensitivity)
        # [step][interval − 1]: cost of the skipped steps before step + interval, for growth 1. Item 0 is unused.
        self.per_growth: list[list[float]] = [[]]
        for step in range(1, n + 1):
            gathered = [0.0]
            for k in range(1, n + 1 - step):
                gathered.append(gathered[-1] + sensitivity[step + k - 1] * (k / n) ** 2 / n)
            gathered[-1] *= last_factor
            self.per_growth.append(gathered)
        self._worst: dict[int, list[float]] = {}  # by number of computed steps; the sessions of all threads share it

    def worst(self, num_computed: int) -> list[float]:
        """Return, for each computed step, the cost of the worst stretch after it in the best plan.

        Args:
            num_computed: number of steps after it that compute; the cost is infinite if fewer steps remain.
        """
        for number in range(num_computed + 1):
            if number not in self._worst:
                self._worst[number] = self._worst_from(self._worst[number - 1] if number else None)
        return self._worst[num_computed]

    def _worst_from(self, later: list[float] | None) -> list[float]:
        """Return `worst` for one more computed step than in `later`; for none if that is None."""
        row = [math.inf]
        for step in range(1, self.num_steps + 1):
            costs = [cost * self.growth[step - 1] for cost in self.per_growth[step]]
            row.append(min(map(max, costs, later[step + 1 :]), default=math.inf) if later else costs[-1])
        return row


@lru_cache(maxsize=32)
def stretch_costs(
    sensitivity: tuple[float, ...], growth: tuple[float, ...], corrector: float, num_steps: int
) -> StretchCosts:
    """Return the costs for a profile. They are the same for every run, so they are cached.

    A corrector reduces the cost of every stretch except the last one by the factor 1 − corrector.
    """
    return StretchCosts(resample(sensitivity, num_steps), resample(growth, num_steps), 1 / (1 - corrector))


class ForecastSchedule:
    """Decides when one video computes; skipped steps read nothing from the device.

    The first steps always compute (`first_steps`).

    Args:
        profile: profile of the model.
        num_steps: n, the denoising steps of the run.
    """

    def __init__(self, profile: Profile, num_steps: int) -> None:
        self.num_steps = num_steps
        self.next_step = 1
        self.first_steps = first_steps(num_steps)
        self._costs = stretch_costs(profile.sensitivity, profile.growth, profile.corrector, num_steps)
        self._last_computed = 0
        self._ratios: list[float] = []
        self._scale = 1.0  # errors of this video so far, relative to the calibrated errors
        self._expected = 0.0  # growth of the errors of the next forecast

    @property
    def rate(self) -> int:
        """Steps from the last computed step to the next."""
        return self.next_step - self._last_computed

    @property
    def num_possible(self) -> int:
        """The largest number of steps that can still compute."""
        return max(self.num_steps - self.next_step + 1, 0)

    def end_computed_step(self, step: int, error: float | None) -> None:
        """Receive the relative error of the forecast for a computed step, or None for the first step.

        A single measurement is noisy, so it gets half the weight, in the logarithm. The other half is the calibrated
        growth at this step, scaled by the ratio of this video's errors to the calibrated ones so far. The next step
        computes unless `wait` postpones it.
        """
        interval, self._last_computed, self.next_step = step - self._last_computed, step, step + 1
        if error is None or step < self.first_steps:
            return
        measured, calibrated = error_growth(error, interval, self.num_steps), self._costs.growth[step - 1]
        self._ratios.append(math.log(max(measured, 1e-12) / calibrated))
        mean = fmean(self._ratios)
        self._scale = math.exp(mean)
        self._expected = calibrated * math.exp((self._ratios[-1] + mean) / 2)

    def plan(self, num_computed: int) -> tuple[float, int]:
        """Return the worst cost of the best plan with this many further computed steps, and its interval to the first.

        With none, the interval reaches beyond the end of the run.
        """
        step, growth, scale = self._last_computed, self._expected, self._scale
        costs = self._costs.per_growth[step]
        if num_computed == 0:
            return growth * costs[-1], len(costs)
        later = self._costs.worst(num_computed - 1)[step + 1 :]
        values = [max(growth * cost, scale * other) for cost, other in zip(costs, later, strict=False)]
        worst = min(values, default=math.inf)
        return worst, 1 + values.index(worst) if values else 1

    def worst(self, num_computed: int) -> float:
        """Return the worst cost of the best plan that computes this many steps, including the next one."""
        if num_computed == 0 or self.num_possible == 0:
            return 0.0 if num_computed == self.num_possible == 0 else math.inf
        return self._scale * self._costs.worst(num_computed - 1)[self.next_step]

    def keep_within(self, tolerance: float) -> None:
        """Schedule the next computed step by the best plan with the fewest computed steps within a tolerance."""
        if self._last_computed < self.first_steps:
            return
        longest = math.ceil(LONGEST_INTERVAL_FRACTION * self.num_steps)
        for num_computed in range(self.num_steps - self._last_computed + 1):
            worst, interval = self.plan(num_computed)
            if worst <= tolerance:
                self.wait(min(interval, longest))
                return

    def wait(self, interval: int) -> None:
        """Compute next after this interval."""
        self.next_step = self._last_computed + interval


class ForecastBudget:
    """A number of computed steps that videos share. Exactly this number is spent.

    Args:
        schedules: one per video.
        total: K times the number of videos.
    """

    def __init__(self, schedules: Sequence[ForecastSchedule], total: int) -> None:
        self.schedules = schedules
        self.left = total

    def end_step(self, step: int, computed: Sequence[bool]) -> None:
        """Set the intervals of the videos that computed a step, to minimize the cost of the worst stretch of all."""
        self.left -= sum(computed)
        if step < self.schedules[0].first_steps or not any(computed):
            return
        for schedule, did, num_computed in zip(self.schedules, computed, self._shares(computed), strict=True):
            if did:
                schedule.wait(schedule.plan(num_computed)[1])

    def _shares(self, computed: Sequence[bool]) -> list[int]:
        """Return how many more steps each video computes. Each step goes to the video with the worst stretch."""
        if len(self.schedules) == 1:
            return [self.left]

        def cost(video: int, share: int) -> float:
            schedule = self.schedules[video]
            return schedule.plan(share)[0] if computed[video] else schedule.worst(share)

        most = [schedule.num_possible for schedule in self.schedules]
        shares = [0 if did else min(1, other) for did, other in zip(computed, most, strict=True)]
        costs = [cost(video, share) for video, share in enumerate(shares)]
        for _ in range(self.left - sum(shares)):
            video = max((v for v in range(len(shares)) if shares[v] < most[v]), key=lambda v: costs[v])
            shares[video] += 1
            costs[video] = cost(video, shares[video])
        return shares


def error_growth(error: float, interval: int, num_steps: int) -> float:
    """Return the relative error of a forecast per squared fraction of the run that the forecast spans.

    >>> error_growth(0.1, 3, 30)
    10.0
    """
    return error * (num_steps / interval) ** 2


def resample(values: Sequence[float], num_steps: int) -> list[float]:
    """Return values given at equally spaced fractions of a run for each of its steps, by linear interpolation.

    Value i of m belongs to the fraction (i + ½) / m. Before the first and after the last value, the result is constant.

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
