"""ForecastCache as a policy: the error of each forecast is measured on the device, each video decides on the host."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from opensora_adacache.caching.forecast_config import ForecastCacheConfig
from opensora_adacache.caching.forecast_schedule import ForecastSchedule
from opensora_adacache.caching.policy import CachePolicy, Decision, StackView


class ForecastCachePolicy(CachePolicy):
    """Decide at each computed step, from how far the forecast for it was off, when to compute next.

    Args:
        config: the settings.
        num_steps: denoising steps of the run.
        groups: the rows of each group; every row is in one group.
    """

    def __init__(self, config: ForecastCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.schedules = [ForecastSchedule(config, num_steps) for _ in groups]
        self._sums: Tensor | None = None

    @property
    def rates(self) -> list[int]:
        return [schedule.rate for schedule in self.schedules]

    def decide(self, view: StackView) -> list[bool]:
        return [schedule.computes(view.step) for schedule in self.schedules]

    def observe_forecast(self, sums: Tensor) -> None:
        self._sums = sums

    def take_measurements(self) -> Tensor:
        sums, self._sums = self._sums, None
        return torch.empty(0, 0, 0) if sums is None else sums[None]

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        sums = dict(zip(self.rows_of(computed), measured[0], strict=True)) if measured else {}
        decisions: list[Decision | None] = []
        for group, schedule, did in zip(self.groups, self.schedules, computed, strict=True):
            error = _relative_error([sums[row] for row in group]) if did and sums else None
            decisions.append(schedule.end_computed_step(step, error) if did else None)
        return decisions


def _relative_error(rows: list[list[float]]) -> float:
    """Return ‖r − forecast‖₂ / ‖r‖₂ of rows that decide together."""
    error, norm = (sum(column) for column in zip(*rows, strict=True))
    return math.sqrt(error / norm) if norm else 0.0
