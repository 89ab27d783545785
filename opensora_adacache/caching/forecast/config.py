"""Settings of ForecastCache. Free of torch, so that configs can be checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_choice, check_corrector, check_positive, is_count, is_number, items
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
    """What the settings share whose skipped steps are forecast by `MeasuredForecast` and corrected by `Corrector`."""

    order: int
    corrector: float

    @property
    def num_extra_residuals(self) -> int:
        """The differences of the forecast."""
        return self.order

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        """Make the forecast of the stack residual in the timestep, with measured gains."""
        from opensora_adacache.caching.residuals.measured_forecast import MeasuredForecast

        return MeasuredForecast(store, self.order, num_rows, device)

    def _check_forecast(self) -> None:
        check_choice("order", self.order, ORDERS)
        check_corrector(self.corrector)


@dataclass(frozen=True)
class ForecastCacheConfig(_MeasuredForecast, CacheConfig):
    """Forecast the stack residual, and compute again where the error of the forecast is about to matter.

    Equations: docs/guide/forecast_cache.md. One of `tolerance`, `computed_steps` and `speedup` is the knob.

    Attributes:
        tolerance: weighted error that one stretch of skipped steps may gather, in relative error × share of the run.
            Raising it computes fewer steps. Each video takes as many as it needs.
        computed_steps: K, honoured exactly.
        speedup: n / K, honoured to the nearest whole K.
        budget_over: "video": each video computes K steps. "batch": the videos of a batch compute K on average, and
            those whose forecasts err more take more of them; for `decision="sample"`.
        order: of the forecast: 1 is a line, 2 bends. The sparser the schedule, the less a bend is worth.
        corrector: share of the error of skipped steps that the next computed step takes back; 0 is none. Only for
            samplers that take Euler steps along a rectified flow, such as `RFLOW`.
        sensitivity: how much an error at a step harms the video, at equally spaced shares of the run; the mean is 1.
        growth: relative error of a forecast per squared share of the run, at equally spaced shares of it.
            A video's own errors scale it; budgets (`computed_steps`, `speedup`) leave steps for what is to come by it.

    ``scripts/calibrate.py --policy forecastcache`` measures both for a model; unknown, they are flat.
    """

    tolerance: float | None = None
    computed_steps: int | None = None
    speedup: float | None = None
    budget_over: str = "video"
    order: int = 1
    corrector: float = 0.0
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
        self._check_forecast()
        for name in ("sensitivity", "growth"):
            values = items(name, getattr(self, name))
            if not values or not all(is_number(value) and value > 0 for value in values):
                raise ValueError(f"{name} must be numbers above 0, got {values}")
            object.__setattr__(self, name, tuple(map(float, values)))

    def budget(self, num_sampling_steps: int) -> int | None:
        """Return how many steps of a run compute; None where the tolerance decides."""
        if self.speedup is not None:
            return round(num_sampling_steps / self.speedup)
        return self.computed_steps

    def check_run(self, num_sampling_steps: int, depth: int) -> None:
        super().check_run(num_sampling_steps, depth)
        budget, least = self.budget(num_sampling_steps), first_steps(num_sampling_steps)
        if budget is not None and not least <= budget <= num_sampling_steps:
            raise ValueError(
                f"a run of {num_sampling_steps} steps can compute {least} to {num_sampling_steps} of them, "
                f"but computed_steps or speedup asks for {budget}"
            )

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        budget = self.budget(num_sampling_steps)
        shares_budget = self.budget_over == "batch"
        return ForecastCachePolicy(self, self.tolerance, budget, shares_budget, num_sampling_steps, groups)

    def misfit(self, num_sampling_steps: int, model_name: str | None) -> str | None:
        if self.budget(num_sampling_steps) == num_sampling_steps or len(set(self.sensitivity)) > 1:
            return None
        return (
            "ForecastCache has no profile of this model, so it treats errors at all steps as equally harmful, which "
            "costs quality: give it the sensitivity and growth that scripts/calibrate.py --policy forecastcache finds"
        )


@dataclass(frozen=True)
class PlannedForecastConfig(_MeasuredForecast, PlannedConfig):
    """A schedule made beforehand; skipped steps are forecast and corrected as in ForecastCache.

    Attributes:
        steps: computed steps, counted from 1.
        order: of the forecast, 1 or 2.
        corrector: as in ForecastCache.
    """

    order: int = 1
    corrector: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_forecast()
