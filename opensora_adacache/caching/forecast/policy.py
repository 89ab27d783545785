"""ForecastCache as a policy: each video decides on the host, by how far off the forecast was at a computed step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.forecast.schedule import ForecastBudget, ForecastSchedule
from opensora_adacache.caching.policy import CachePolicy, Decision, StackView
from opensora_adacache.caching.residuals.measured_forecast import MissedForecast


class ForecastCachePolicy(CachePolicy):
    """Decide at each computed step, from how far the forecast for it was off, when to compute next.

    Args:
        config: the settings.
        num_steps: denoising steps of the run.
        groups: the rows of each group; every row is in one group.
    """

    def __init__(self, config: ForecastCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.tolerance = config.tolerance
        self.schedules = [ForecastSchedule(config, num_steps) for _ in groups]
        self.budgets: list[ForecastBudget] = []
        steps = config.budget(num_steps)
        if steps is not None:
            shares = [self.schedules] if config.budget_over == "batch" else [[one] for one in self.schedules]
            self.budgets = [ForecastBudget(share, steps * len(share)) for share in shares]
        self._missed: Mapping[int, MissedForecast] = {}

    @property
    def rates(self) -> list[int]:
        return [schedule.rate for schedule in self.schedules]

    def decide(self, view: StackView) -> list[bool]:
        return [view.step >= schedule.next_step for schedule in self.schedules]

    def observe_forecast(self, missed: Mapping[int, MissedForecast]) -> None:
        self._missed = missed

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        errors = [
            _relative_error([self._missed[row] for row in group]) if did and self._missed else None
            for group, did in zip(self.groups, computed, strict=True)
        ]
        for schedule, did, error in zip(self.schedules, computed, errors, strict=True):
            if did:
                schedule.end_computed_step(step, error)
                if self.tolerance:
                    schedule.keep_within(self.tolerance)
        flags = iter(computed)  # budgets have the videos in their order
        for budget in self.budgets:
            budget.end_step(step, [next(flags) for _ in budget.schedules])
        return [
            None if error is None else Decision(error, rate=schedule.rate)
            for schedule, error in zip(self.schedules, errors, strict=True)
        ]


def _relative_error(rows: Sequence[MissedForecast]) -> float:
    """Return ‖r − forecast‖₂ / ‖r‖₂ of rows that decide together."""
    error, norm = (sum(column) for column in zip(*rows, strict=True))
    return math.sqrt(error / norm) if norm else 0.0
