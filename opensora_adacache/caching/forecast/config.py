"""Settings of ForecastCache. Does not import torch, so that configs can be checked before any heavy import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_choice, check_positive, is_count, is_number, items
from opensora_adacache.caching.contract import CacheConfig, CachePolicy
from opensora_adacache.caching.forecast.policy import ForecastCachePolicy
from opensora_adacache.caching.forecast.schedule import first_steps
from opensora_adacache.caching.policies.planned import PlannedConfig

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.residuals.base import StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore

ORDERS = (1, 2)
BUDGETS = ("video", "batch")


class _MeasuredForecast:
    """Shared by settings whose skipped steps are forecast by `MeasuredForecast`."""

    order: int

    @property
    def own_forecast_residuals(self) -> int:
        """The differences of the forecast."""
        return self.order

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        """Create the forecast of the stack residual over the timestep, with measured gains."""
        from opensora_adacache.caching.residuals.measured_forecast import MeasuredForecast

        return MeasuredForecast(store, self.order, num_rows, device)

    def _check_order(self) -> None:
        check_choice("order", self.order, ORDERS)


@dataclass(frozen=True)
class ForecastCacheConfig(_MeasuredForecast, CacheConfig):
    """Forecasts the stack residual and computes again when the forecast error is about to matter.

    The equations are in docs/guide/forecast_cache.md. Set exactly one of `tolerance`, `computed_steps` and `speedup`.

    Attributes:
        tolerance: weighted error that one stretch of skipped steps may accumulate, as relative error × fraction of the
            run. Raising it computes fewer steps. Each video computes as many steps as it needs.
        computed_steps: K, the exact number of computed steps.
        speedup: n / K, rounded to the nearest whole K.
        budget_over: with "video", each video computes K steps. With "batch", the videos of a batch compute K steps on
            average, and those with larger forecast errors compute more; requires `decision="sample"`.
        order: order of the forecast: 1 is linear, 2 adds a second-order term, which helps less as schedules get
            sparser.
        sensitivity: how much an error at a step harms the video, at equally spaced fractions of the run, with mean 1.
        growth: relative error of a forecast per squared fraction of the run, at equally spaced fractions of the run.
            The measured errors of a video scale it. Budgets (`computed_steps`, `speedup`) use it to reserve steps for
            later in the run.

    ``opensora-adacache calibrate --policy forecastcache`` measures `sensitivity` and `growth` for a model; the
    defaults are flat.
    """

    tolerance: float | None = None
    computed_steps: int | None = None
    speedup: float | None = None
    budget_over: str = "video"
    order: int = 1
    sensitivity: tuple[float, ...] = (1.0,)
    growth: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        knobs = ("tolerance", "computed_steps", "speedup")
        given = [name for name in knobs if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(knobs)}, got {' and '.join(given) or 'none'}")
        if self.tolerance is not None:
            check_positive("tolerance", self.tolerance)
        if self.speedup is not None and not (is_number(self.speedup) and self.speedup >= 1):
            raise ValueError(f"speedup must be a number of at least 1, got {self.speedup!r}")
        if self.computed_steps is not None and not is_count(self.computed_steps):
            raise ValueError(f"computed_steps must be a whole number of at least 1, got {self.computed_steps!r}")
        check_choice("budget_over", self.budget_over, BUDGETS)
        if self.budget_over == "batch" and (self.decision == "batch" or self.tolerance is not None):
            raise ValueError(
                'budget_over="batch" shares computed_steps between videos: give computed_steps or speedup, and '
                'decision="sample"'
            )
        self._check_order()
        for name in ("sensitivity", "growth"):
            values = items(name, getattr(self, name))
            if not values or not all(is_number(value) and value > 0 for value in values):
                raise ValueError(f"{name} must be numbers above 0, got {values}")
            object.__setattr__(self, name, tuple(map(float, values)))

    def budget(self, num_sampling_steps: int) -> int | None:
        """Return the number of steps that compute in a run; None if the tolerance decides."""
        if self.speedup is not None:
            return round(num_sampling_steps / self.speedup)
        return self.computed_steps

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        budget, least = self.budget(num_sampling_steps), first_steps(num_sampling_steps)
        if budget is not None and not least <= budget <= num_sampling_steps:
            raise ValueError(
                f"a run of {num_sampling_steps} steps can compute {least} to {num_sampling_steps} of them, "
                f"got a budget of {budget}: change computed_steps or speedup"
            )

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        budget = self.budget(num_sampling_steps)
        shares_budget = self.budget_over == "batch"
        return ForecastCachePolicy(self, self.tolerance, budget, shares_budget, num_sampling_steps, groups)

    @property
    def reads_forecast_error(self) -> bool:
        """The error of a forecast decides when to compute again."""
        return True

    def most_lenient(self) -> CacheConfig:
        return self

    def misfit(self, num_sampling_steps: int, model_name: str | None) -> str | None:
        if self.budget(num_sampling_steps) == num_sampling_steps or len(set(self.sensitivity)) > 1:
            return None
        return (
            "ForecastCache has no profile of this model, so it treats errors at all steps as equally harmful, which "
            "costs quality: set sensitivity and growth, as measured by opensora-adacache calibrate --policy "
            "forecastcache"
        )


@dataclass(frozen=True)
class PlannedForecastConfig(_MeasuredForecast, PlannedConfig):
    """A schedule made in advance; skipped steps are forecast and corrected as in ForecastCache.

    Attributes:
        steps: computed steps, counted from 1.
        order: order of the forecast, 1 or 2.
    """

    order: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_order()
