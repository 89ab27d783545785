"""TAFC: a line over the timestep, skipped while it promises to be good, with budgets that a PID controller steers.

Source: the text and the code of the repository "Trajectory-Aligned Flow Caching" (github.com/bijiw515/TAFC; a paper is
announced). Where text and code differ or leave something open:

- The text writes norms; the code compares means of absolute values for the risk and the error. We use Euclidean norms
  everywhere, as the text does for the curvature.
- The code measures the conditional branch and adds its forecast to both branches. Here all rows of a group are pooled,
  and each row has its own forecast.
- The code reads norms on every step. Here they are measured at computed steps; a skipped step reads its timestep only.
- Constants are the code's defaults: see the names below. `first_steps` is 5 in the published video runs and 1
  otherwise; two more steps compute until the first error has been measured.
- The last step always computes, as in the code's image runs. Its video runs leave it to the gates.
- `max_skips` is 6 in the code, and 4 in its runs of Wan. With two guidance branches the code counts a skipped step of
  the unconditional one twice, which about halves the limit; we count it once.

Six is too many for a model whose residual turns least in the middle of the run, as that of a small trained one did. A
threshold that leaves 20 of 30 steps then skips up to six in a row there, and none later. So the calibration takes the
fewest `max_skips` that reach a speedup, and tries more first steps too. Where it finds a threshold of 100, only
`max_skips` and the risk end a stretch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from opensora_adacache.caching.checks import check_counts, check_positive, is_index
from opensora_adacache.caching.contract import CacheConfig, CachePolicy, Decision, StackView
from opensora_adacache.caching.distance import change_sums, relative_error

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from opensora_adacache.caching.residuals.base import MissedForecast, StackResidual
    from opensora_adacache.caching.residuals.store import ResidualStore

EARLY, LATE = 0.7, 2.0
"""Factor of the curvature budget at the first and at the last step."""
TARGET_FACTOR, RISK_FACTOR = 2.5, 3.0
"""Target error and risk budget, in units of what one step from a computed step to the next has cost."""
PROPORTIONAL, INTEGRAL, DERIVATIVE = 0.4, 0.05, 0.2
SMALLEST_GAIN, LARGEST_GAIN, LARGEST_SUM = 0.3, 3.0, 2.0
BRAKE, HARDEST_BRAKE = 2.0, 0.3
"""How hard a rising curvature tightens the budgets, and their smallest factor."""
CALIBRATION_STEPS, WINDOW = 3, 8
TURN_WEIGHT = 2.0


@dataclass(frozen=True)
class TAFCConfig(CacheConfig):
    """TAFC.

    Attributes:
        threshold: base budget of the curvature. Raising it computes fewer steps. Published: 0.02 and 0.15 on
            HunyuanVideo, for about 2× and 3× at 50 steps.
        max_skips: consecutive skipped steps that the end of the run allows in addition to the one that its start does.
            With 0, no two steps in a row are skipped.
        first_steps: number of steps at the start that always compute.
    """

    threshold: float = 0.15
    max_skips: int = 6
    first_steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold)
        check_counts(self, "first_steps")
        if not is_index(self.max_skips):
            raise ValueError(f"max_skips must be a whole number of at least 0, got {self.max_skips!r}")

    @property
    def reads_forecast_error(self) -> bool:
        return True

    @property
    def own_forecast_residuals(self) -> int:
        """The slope of the line."""
        return 1

    @property
    def num_extra_residuals(self) -> int:
        """What the predictor holds, and the last computed residual, with which the next one is compared."""
        return self.num_forecast_residuals + 1

    def build(self, num_sampling_steps: int, groups: list[list[int]]) -> CachePolicy:
        return TAFCPolicy(self, num_sampling_steps, groups)

    def build_residual(self, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
        from opensora_adacache.caching.residuals.taylor import LineResidual

        return LineResidual(store, num_rows, device)

    def most_lenient(self) -> CacheConfig:
        return self


@dataclass
class GainController:
    """Steers the gain of the budgets, in log space, so that the measured error tracks a target.

    The target is a multiple of the median error of forecasts over a single step, measured at the start of the run.

    Attributes:
        risks: relative corrections of these single steps.
        errors: relative errors of these single steps.
    """

    risks: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    errors: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _log_gain: float = 0.0
    _sum: float = 0.0
    _last: float | None = None

    @property
    def gain(self) -> float:
        """Factor of the budgets."""
        return math.exp(self._log_gain)

    @property
    def is_calibrated(self) -> bool:
        """Whether single steps have been measured."""
        return bool(self.risks and self.errors)

    def calibrate(self, risk: float, error: float) -> None:
        """Receive what a forecast over a single step risked and missed."""
        self.risks.extend([risk] if risk > 0 else [])
        self.errors.extend([error] if error > 0 else [])

    def update(self, error: float) -> None:
        """Receive the relative error of the forecast after skipped steps."""
        if not self.errors:
            return
        deviation = math.log(TARGET_FACTOR * median(self.errors) / max(error, 1e-12))
        change = 0.0 if self._last is None else deviation - self._last
        total = self._sum + deviation
        wanted = self._log_gain + PROPORTIONAL * deviation + INTEGRAL * total + DERIVATIVE * change
        self._log_gain = min(max(wanted, math.log(SMALLEST_GAIN)), math.log(LARGEST_GAIN))
        if self._log_gain == wanted:  # the sum does not grow while the gain is at its limit
            self._sum = min(max(total, -LARGEST_SUM), LARGEST_SUM)
        self._last = deviation


class Trajectory:
    """What the policy knows about one group: its last two residuals, as norms and an angle, and its controller."""

    def __init__(self) -> None:
        self.controller = GainController()
        self.steps: list[int] = []
        self.times: list[float] = []
        self.change = 0.0  # ‖r_b − r_a‖ / ‖r_b‖
        self.curvature: float | None = None
        self.brake = 1.0
        self.skipped = 0
        self._seen: tuple[int, float] | None = None  # the computed step at which the brake was set, and its curvature

    def risk(self, time: float) -> float | None:
        """Return ‖r̂ − r_b‖ / ‖r_b‖ of the line at a timestep; None before the second residual."""
        if self.curvature is None:
            return None
        interval = abs(self.times[0] - self.times[1])
        return abs(self.times[0] - time) / interval * self.change if interval else 0.0

    def skips(self, time: float, fraction: float, threshold: float, max_skips: int) -> bool:
        """Return whether the line may replace a step at this timestep and fraction of the run."""
        risk = self.risk(time)
        if risk is None or self.curvature is None:
            return False
        self._set_brake(self.curvature)
        budget = self.controller.gain * self.brake
        risks = self.controller.risks
        if risks and risk > RISK_FACTOR * median(risks) * budget:
            return False
        allowed = threshold * (EARLY + (LATE - EARLY) * fraction) * budget
        return self.curvature < allowed and self.skipped < 1 + max_skips * fraction

    def measure(self, change: float, old: float, new: float) -> None:
        """Receive ‖r_b − r_a‖², ‖r_a‖² and ‖r_b‖² of the residuals at the last two computed steps."""
        self.change = math.sqrt(change / new) if new else 0.0
        self.curvature = curvature(change, old, new)

    def _set_brake(self, now: float) -> None:
        """Tighten the budgets where the curvature has risen since the last computed step that was asked about."""
        step = self.steps[0]
        if self._seen is not None and self._seen[0] != step:
            before, curvature_before = self._seen
            rise = max(0.0, (now - curvature_before) / max(curvature_before, 1e-6) / (step - before))
            self.brake = max(HARDEST_BRAKE, 1 / (1 + BRAKE * rise))
        self._seen = step, now


class TAFCPolicy(CachePolicy):
    """Skips while risk and curvature stay within their budgets, which the error at computed steps steers."""

    NAME = "last computed residual"

    def __init__(self, config: TAFCConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.config = config
        self.num_steps = num_steps
        self.trajectories = [Trajectory() for _ in groups]
        self._time = 0.0
        self._measured: list[Tensor] = []
        self._missed: Mapping[int, MissedForecast] = {}

    @property
    def needs_timestep(self) -> bool:
        """The risk of a skipped step depends on its distance in time."""
        return True

    def decide(self, view: StackView) -> list[bool]:
        assert view.time is not None  # the session reads it, because `needs_timestep`
        self._time = view.time
        fraction = (view.step - 1) / max(1, self.num_steps - 1)
        computed = []
        for one in self.trajectories:
            skips = not self._is_forced(view.step, one) and one.skips(
                self._time, fraction, self.config.threshold, self.config.max_skips
            )
            one.skipped = one.skipped + 1 if skips else 0
            computed.append(not skips)
        return computed

    def observe_output(self, view: StackView, out: Tensor, rows: Tensor | None) -> None:
        residual = out - (view.x if rows is None else view.x[rows])
        if self.NAME in view.store:
            # ‖change‖², ‖old‖² and ‖new‖²
            self._measured = [change_sums(view.store.get(self.NAME, rows), residual, "cosine")]
        view.store.put(self.NAME, residual, rows)

    def take_measurements(self) -> Sequence[Tensor]:
        measured, self._measured = self._measured, []
        return measured

    def observe_forecast(self, missed: Mapping[int, MissedForecast]) -> None:
        self._missed = missed

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        decisions: list[Decision | None] = []
        for one, group, pooled in zip(self.trajectories, self.groups, self.pooled(computed, measured), strict=True):
            decisions.append(None)
            if pooled is None:
                continue
            if pooled:
                risk, error = one.risk(self._time), relative_error(self._missed[row] for row in group)
                if risk is not None and step - one.steps[0] > 1:
                    one.controller.update(error)
                elif risk is not None and self._is_forced(step, one):
                    one.controller.calibrate(risk, error)
            one.steps, one.times = [step, *one.steps][:2], [self._time, *one.times][:2]
            if pooled:
                one.measure(*pooled[0])
                decisions[-1] = Decision(one.curvature or 0.0)
        return decisions

    def _is_forced(self, step: int, one: Trajectory) -> bool:
        if step <= self.config.first_steps or step == self.num_steps:
            return True
        return step <= CALIBRATION_STEPS and not one.controller.is_calibrated


def curvature(change: float, old: float, new: float) -> float:
    """Return |‖r_b‖ − ‖r_a‖| / ‖r_a‖ + 2·(1 − cos(r_a, r_b)).

    Args:
        change: ‖r_b − r_a‖².
        old: ‖r_a‖².
        new: ‖r_b‖².

    >>> curvature(1.0, 1.0, 4.0), curvature(2.0, 1.0, 1.0)  # twice as long; turned by 90°
    (1.0, 2.0)
    """
    if not old or not new:
        return 0.0 if old == new else math.inf
    lengths = math.sqrt(old), math.sqrt(new)
    # 1 − cos = (‖r_b − r_a‖² − (‖r_b‖ − ‖r_a‖)²) / (2 ‖r_a‖ ‖r_b‖), which keeps small angles accurate
    turn = max(change - (lengths[1] - lengths[0]) ** 2, 0.0) / (2 * lengths[0] * lengths[1])
    return abs(lengths[1] - lengths[0]) / lengths[0] + TURN_WEIGHT * turn
