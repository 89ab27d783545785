"""When ForecastCache computes next, for each video (or for a batch that decides together), on plain numbers.

A forecast made over a gap of G steps missed the residual by a relative error e. The next one is expected to miss it by
e·(k/G)² after k steps: near the last computed step it is nearly right, whatever its gains. An error at step s moves the
video by `sensitivity` at s, so a stretch of skipped steps costs Σ sensitivity · error / n. A plan is as good as its
worst stretch; at each computed step the best plan for the rest of the run is made anew, from errors measured so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Protocol

LONGEST_GAP_SHARE = 1 / 3
"""Most steps from one computed step to the next that a tolerance allows, as a share of all: no error was ever measured
over a longer gap."""


class Profile(Protocol):
    """What a schedule has to know of a model; `ForecastCacheConfig` has it.

    Attributes:
        sensitivity: how much an error harms the video, at equally spaced fractions of the run.
        growth: relative error of a forecast per squared fraction of the run, likewise.
        corrector: fraction of an error that the next computed step corrects.
    """

    @property
    def sensitivity(self) -> tuple[float, ...]: ...

    @property
    def growth(self) -> tuple[float, ...]: ...

    @property
    def corrector(self) -> float: ...


def first_steps(num_steps: int) -> int:
    """Return how many steps at the start of a run of n always compute.

    With fewer than four no forecast whose gain was measured can be held against the truth; on the embedded model a
    skipped fourth step turned some videos into others. And a profile says nothing of the start: one that was measured
    with 30 steps knows no forecast before their fourth, where errors harm most; so a tenth of the run computes.

    >>> first_steps(30), first_steps(100)
    (4, 10)
    """
    return min(max(4, round(num_steps / 10)), num_steps)


class StretchCosts:
    """What every stretch of skipped steps costs, and the best plans by calibrated errors.

    Args:
        sensitivity: for each step how much an error there harms.
        growth: for each step how fast errors of a forecast made there grow, as calibrated.
        last_factor: how much more the last stretch costs: no computed step follows that could correct it.
    """

    def __init__(self, sensitivity: Sequence[float], growth: Sequence[float], last_factor: float) -> None:
        self.growth = growth
        self.num_steps = n = len(sensitivity)
        # [step][gap − 1]: of the skipped steps before step + gap, for a growth of 1. Item 0 stands for no step.
        self.per_growth: list[list[float]] = [[]]
        for step in range(1, n + 1):
            gathered = [0.0]
            for k in range(1, n + 1 - step):
                gathered.append(gathered[-1] + sensitivity[step + k - 1] * (k / n) ** 2 / n)
            gathered[-1] *= last_factor
            self.per_growth.append(gathered)
        self._worst: list[list[float]] = []

    def worst(self, num_computed: int) -> list[float]:
        """Return for each computed step the cost of the worst stretch after it, in the best plan.

        Args:
            num_computed: steps after it that compute; where there are fewer the cost is infinite.
        """
        while len(self._worst) <= num_computed:
            later = self._worst[-1] if self._worst else None
            row = [math.inf]
            for step in range(1, self.num_steps + 1):
                costs = [cost * self.growth[step - 1] for cost in self.per_growth[step]]
                row.append(min(map(max, costs, later[step + 1 :]), default=math.inf) if later else costs[-1])
            self._worst.append(row)
        return self._worst[num_computed]


@lru_cache(maxsize=32)
def stretch_costs(
    sensitivity: tuple[float, ...], growth: tuple[float, ...], corrector: float, num_steps: int
) -> StretchCosts:
    """Return the costs by a profile; they are the same for every run, and worked out once.

    A corrector leaves 1 − corrector of what a stretch costs, except of the last one.
    """
    return StretchCosts(resample(sensitivity, num_steps), resample(growth, num_steps), 1 / (1 - corrector))


class ForecastSchedule:
    """When one video computes; the steps between need no look at the device.

    The first steps compute (`first_steps`).

    Args:
        profile: of the model.
        num_steps: n, the denoising steps of the run.
    """

    def __init__(self, profile: Profile, num_steps: int) -> None:
        self.num_steps = num_steps
        self.next_step = 1
        self.first_steps = first_steps(num_steps)
        self._costs = stretch_costs(profile.sensitivity, profile.growth, profile.corrector, num_steps)
        self._last_computed = 0
        self._ratios: list[float] = []
        self._scale = 1.0  # how this video's errors compare with the calibrated ones so far
        self._expected = 0.0  # growth of the errors of the next forecast

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
        measured, calibrated = error_growth(error, gap, self.num_steps), self._costs.growth[step - 1]
        self._ratios.append(math.log(max(measured, 1e-12) / calibrated))
        mean = fmean(self._ratios)
        self._scale = math.exp(mean)
        self._expected = calibrated * math.exp((self._ratios[-1] + mean) / 2)

    def plan(self, num_computed: int) -> tuple[float, int]:
        """Return the worst cost of the best plan in which so many more steps compute, and its gap to the first.

        Without one the gap reaches beyond the run.
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
        """Return the worst cost of the best plan in which so many steps compute, the next one among them."""
        if num_computed == 0 or self.num_possible == 0:
            return 0.0 if num_computed == self.num_possible == 0 else math.inf
        return self._scale * self._costs.worst(num_computed - 1)[self.next_step]

    def keep_within(self, tolerance: float) -> None:
        """Compute next by the best of the plans with the fewest computed steps that keep within a tolerance."""
        if self._last_computed < self.first_steps:
            return
        longest = math.ceil(LONGEST_GAP_SHARE * self.num_steps)
        for num_computed in range(self.num_steps - self._last_computed + 1):
            worst, gap = self.plan(num_computed)
            if worst <= tolerance:
                self.wait(min(gap, longest))
                return

    def wait(self, gap: int) -> None:
        """Compute next after that gap."""
        self.next_step = self._last_computed + gap


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
        """Set the gaps of the videos that computed a step, so that the worst stretch of all of them costs least."""
        self.left -= sum(computed)
        if step < self.schedules[0].first_steps or not any(computed):
            return
        for schedule, did, num_computed in zip(self.schedules, computed, self._shares(computed), strict=True):
            if did:
                schedule.wait(schedule.plan(num_computed)[1])

    def _shares(self, computed: Sequence[bool]) -> list[int]:
        """Return how many more steps each video computes: each further one goes where the worst stretch is."""
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
