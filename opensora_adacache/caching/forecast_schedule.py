"""When ForecastCache computes next, for one video (or for a batch that decides together), on plain numbers.

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

from opensora_adacache.caching.forecast_config import FIRST_STEPS, ForecastCacheConfig
from opensora_adacache.caching.policy import Decision

LONGEST_GAP_SHARE = 1 / 3
"""Most steps from one computed step to the next, as a share of all: no error was ever measured over a longer gap."""
_BISECTIONS = 24


class ForecastSchedule:
    """Decide at each computed step which one is next; the steps between need no look at the device.

    The first three steps compute. Without a tolerance, the number of computed steps is exactly the budget.

    Args:
        config: the settings.
        num_steps: n, the denoising steps of the run.
    """

    def __init__(self, config: ForecastCacheConfig, num_steps: int) -> None:
        self.num_steps = num_steps
        self.rate = 1
        self._tolerance = config.tolerance
        self._left = config.budget(num_steps)
        self._sensitivity = resample(config.sensitivity, num_steps)
        self._growth = resample(config.growth, num_steps)
        self._longest = max(1, math.ceil(LONGEST_GAP_SHARE * num_steps))
        self._last_computed = 0
        self._ratios: list[float] = []

    def computes(self, step: int) -> bool:
        """Tell whether `step`, counted from 1, computes."""
        return step >= self._last_computed + self.rate

    def end_computed_step(self, step: int, error: float | None) -> Decision | None:
        """Take the relative error of the forecast for a computed step, None for the first one; set the rate."""
        gap, self._last_computed = step - self._last_computed, step
        if self._left is not None:
            self._left -= 1
        if error is None:
            return None
        if step >= FIRST_STEPS:
            growth = self._expected_growth(step, error_growth(error, gap, self.num_steps))
            self.rate = self._gap(step, growth, self._tolerance) if self._tolerance else self._budgeted(step, growth)
        return Decision(error, rate=self.rate)

    def _expected_growth(self, step: int, measured: float) -> float:
        """Return how fast the error of the forecast from `step` on is expected to grow.

        One measurement is noisy, so it counts half, in the logarithm; the other half is the calibrated growth at this
        step, scaled by how this video's errors compared with the calibrated ones so far.
        """
        calibrated = self._growth[step - 1]
        self._ratios.append(math.log(max(measured, 1e-12) / calibrated))
        return calibrated * math.exp((self._ratios[-1] + fmean(self._ratios)) / 2)

    def _gap(self, step: int, growth: float, tolerance: float) -> int:
        """Return the longest gap after `step` whose skipped steps gather at most the tolerance."""
        gathered, gap, n = 0.0, 1, self.num_steps
        while gap < self._longest and step + gap <= n:
            gathered += self._sensitivity[step + gap - 1] * growth * (gap / n) ** 2 / n
            if gathered > tolerance:
                break
            gap += 1
        return gap

    def _budgeted(self, step: int, growth: float) -> int:
        """Return the gap after `step` that spends what is left of the budget evenly in error."""
        later = self.num_steps - step
        if not self._left:
            return later + 1
        if self._left >= later:
            return 1
        scale = math.exp(fmean(self._ratios))  # so that what is to come is seen on the same scale
        low, high = -40.0, 10.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if self._count(step, growth, scale, math.exp(middle)) > self._left:
                low = middle
            else:
                high = middle
        # the steps after the next one must be enough for what is left then
        return min(self._gap(step, growth, math.exp(high)), later - self._left + 1)

    def _count(self, step: int, growth: float, scale: float, tolerance: float) -> int:
        """Return how many later steps a tolerance would compute, with calibrated errors from the next one on."""
        count, step = 0, step + self._gap(step, growth, tolerance)
        while step <= self.num_steps:
            count += 1
            step += self._gap(step, scale * self._growth[step - 1], tolerance)
        return count


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
