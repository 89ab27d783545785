"""ForecastCache as a policy: each video decides on the host, from the forecast error at a computed step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opensora_adacache.caching.contract import CachePolicy, Decision, StackView
from opensora_adacache.caching.distance import relative_error
from opensora_adacache.caching.forecast.schedule import ForecastBudget, ForecastSchedule, Profile

if TYPE_CHECKING:
    from opensora_adacache.caching.residuals.base import MissedForecast


class ForecastCachePolicy(CachePolicy):
    """Decides at each computed step when to compute next, from the error of the forecast for that step.

    Args:
        profile: profile of the model.
        tolerance: weighted error that one stretch of skipped steps may accumulate; None with a budget.
        budget: number of steps that each video computes; None with a tolerance.
        shares_budget: whether the videos of a batch share their budgets.
        num_steps: denoising steps of the run.
        groups: the rows of each group; every row belongs to exactly one group.
    """

    def __init__(
        self,
        profile: Profile,
        tolerance: float | None,
        budget: int | None,
        shares_budget: bool,
        num_steps: int,
        groups: list[list[int]],
    ) -> None:
        super().__init__(groups)
        self.tolerance = tolerance
        self.schedules = [ForecastSchedule(profile, num_steps) for _ in groups]
        self.budgets: list[ForecastBudget] = []
        if budget is not None:
            sharing = [self.schedules] if shares_budget else [[one] for one in self.schedules]
            self.budgets = [ForecastBudget(videos, budget * len(videos)) for videos in sharing]
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
        # a video whose numbers broke computes every step, which no budget has planned
        planned = [did and step >= one.next_step for one, did in zip(self.schedules, computed, strict=True)]
        errors = [
            relative_error(self._missed[row] for row in group) if did and self._missed else None
            for group, did in zip(self.groups, planned, strict=True)
        ]
        for schedule, did, error in zip(self.schedules, planned, errors, strict=True):
            if did:
                schedule.end_computed_step(step, error)
                if self.tolerance:
                    schedule.keep_within(self.tolerance)
        flags = iter(planned)  # the budgets hold the videos in this order
        for budget in self.budgets:
            budget.end_step(step, [next(flags) for _ in budget.schedules])
        return [
            None if error is None else Decision(error, rate=schedule.rate)
            for schedule, error in zip(self.schedules, errors, strict=True)
        ]
