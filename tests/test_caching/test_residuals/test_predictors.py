"""Predictors by name: how many tensors they hold, what they forecast, and how far off they were."""

from __future__ import annotations

import math

import pytest
import torch

from opensora_adacache import AdaCacheConfig
from opensora_adacache.caching.forecast.config import PlannedForecastConfig
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.predictors import PREDICTORS
from opensora_adacache.caching.residuals.measured_error import MeasuredError
from opensora_adacache.caching.residuals.predictors import make_predictor
from opensora_adacache.caching.residuals.store import ResidualStore

X = torch.zeros(2, 3, 4)


def times(step):
    return torch.full((2,), 1000.0 - 100 * step)


def filled(residual, values, dtype=torch.float32):
    """Pass residuals {step: value} as computed steps of a run; return the errors that were measured at each."""
    missed, x = [], X.to(dtype)
    for step, value in values.items():
        residual.update(x + value, x, None, step, times(step))
        sums = residual.take_measurements()
        sums = [] if sums is None else sums.tolist()
        missed.append(residual.end_computed_step([0, 1], sums, times(step)[0].item()))
    return missed


def at(residual, step):
    return residual.add_to(X, None, step, times(step))[:, 0, 0].tolist()


@pytest.mark.parametrize("name", PREDICTORS)
def test_they_hold_as_many_tensors_as_they_say(name):
    residual = make_predictor(name, ResidualStore(), 2, X.device)
    filled(residual, {step: float(step) for step in range(1, 9)}, torch.bfloat16)
    assert residual.store.num_bytes() == (1 + PREDICTORS[name]) * X.numel() * 2


@pytest.mark.parametrize("name", sorted(PREDICTORS.keys() - {"chebyshev"}))
def test_after_one_computed_step_they_reuse(name):
    residual = make_predictor(name, ResidualStore(), 2, X.device)
    filled(residual, {1: 3.0})
    assert at(residual, 3) == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("name", sorted(PREDICTORS.keys() - {"reuse", "hermite", "chebyshev", "exponential"}))
def test_a_line_is_forecast_exactly(name):
    residual = make_predictor(name, ResidualStore(), 2, X.device)
    filled(residual, {step: 2.0 * step for step in (1, 2, 4, 6, 8)})
    assert at(residual, 10) == pytest.approx([20.0, 20.0], rel=1e-4)


@pytest.mark.parametrize("rows", [None, torch.tensor([1])])
@pytest.mark.parametrize("name", PREDICTORS)
def test_rows_do_not_disturb_one_another(name, rows):
    """A row that goes on alone forecasts what it would forecast in a batch."""
    both = make_predictor(name, ResidualStore(), 2, X.device)
    filled(both, {step: math.sin(step) for step in (1, 2, 4, 6, 8)})
    if rows is not None:
        both.store.keep_rows(rows)
        both.keep_rows(rows)
        assert both.num_rows == 1
    x = X if rows is None else X[rows]
    expected = make_predictor(name, ResidualStore(), 2, X.device)
    filled(expected, {step: math.sin(step) for step in (1, 2, 4, 6, 8)})
    assert both.add_to(x, None, 9, times(9))[0, 0, 0].item() == pytest.approx(at(expected, 9)[1])


@pytest.mark.parametrize("name", PREDICTORS)
def test_rows_that_compute_at_other_steps_do_not_disturb_one_another(name):
    """Two videos that decide for themselves forecast what each forecasts alone, from the second step on."""
    schedules = ((1, 3, 4, 6, 8, 10), (1, 2, 4, 6, 8, 9))

    def forecasts(rows):
        residual, x = make_predictor(name, ResidualStore(), len(rows), X.device), X[:1].repeat(len(rows), 1, 1)
        found = []
        for step in range(1, 11):
            found.append([] if step == 1 else residual.add_to(x, None, step, times(step))[:, 0, 0].tolist())
            computed = [place for place, row in enumerate(rows) if step in schedules[row]]
            if not computed:
                continue
            out = torch.stack([x[place] + math.sin(step + rows[place]) for place in computed])
            index = None if len(computed) == len(rows) else torch.tensor(computed)
            residual.update(out, x[computed], index, step, times(step))
            sums = residual.take_measurements()
            residual.end_computed_step(computed, [] if sums is None else sums.tolist(), times(step)[0].item())
        return found

    for both, first, second in zip(forecasts([0, 1]), forecasts([0]), forecasts([1]), strict=True):
        assert both == pytest.approx(first + second, abs=1e-6)


def test_the_line_runs_over_timesteps():
    residual = make_predictor("line", ResidualStore(), 2, X.device)
    for step, time, value in ((1, 1000.0, 1.0), (2, 900.0, 3.0)):
        residual.update(X + value, X, None, step, torch.full((2,), time))
    # 2 per 100; step 3 is 300 away
    assert residual.add_to(X, None, 3, torch.full((2,), 600.0))[:, 0, 0].tolist() == pytest.approx([9.0, 9.0])


def test_equal_timesteps_give_no_slope():
    residual = make_predictor("line", ResidualStore(), 2, X.device)
    for step, value in ((1, 1.0), (2, 3.0)):
        residual.update(X + value, X, None, step, torch.full((2,), 900.0))
    assert at(residual, 3) == [3.0, 3.0]


def test_errors_are_measured_for_every_predictor():
    # a line through 1 and 2 forecasts 4 at step 4, where the residual is 7
    residual = MeasuredError(make_predictor("taylor-1", ResidualStore(), 2, X.device))
    first, second, third = filled(residual, {1: 1.0, 2: 2.0, 4: 7.0})
    assert first == {} and second == {0: (12.0, 48.0), 1: (12.0, 48.0)}
    assert third == {row: pytest.approx((9.0 * 12, 49.0 * 12)) for row in (0, 1)}
    assert at(residual, 5) == pytest.approx([9.5, 9.5])


@pytest.mark.parametrize("name", PREDICTORS)
def test_autocast_changes_no_forecast(name):
    """Pipelines run in ``torch.autocast``, where matrix products would be taken in half precision."""
    out = []
    for enabled in (False, True):
        residual = make_predictor(name, ResidualStore(), 1, torch.device("cpu"))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for step, t in enumerate((1000.0, 900.0, 800.0, 700.0), start=1):
                residual.update(
                    torch.full((1, 2, 2), (t / 100) ** 2), torch.zeros(1, 2, 2), None, step, torch.tensor([t])
                )
                sums = residual.take_measurements()
                residual.end_computed_step([0], [] if sums is None else sums.tolist(), t)
            out.append(residual.add_to(torch.zeros(1, 2, 2), None, 5, torch.tensor([600.0])))
    assert torch.equal(*out)


def test_estimates_of_memory():
    assert StaticConfig(predictor="hermite").num_extra_residuals == 2
    assert TaylorSeerConfig(order=2, predictor="reuse").num_extra_residuals == 0
    assert PlannedForecastConfig(steps=(1, 2), predictor="taylor-1", order=2).num_extra_residuals == 1
    assert AdaCacheConfig({1.0: 1}, predictor="measured-2").num_extra_residuals == 3  # and the probe


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StaticConfig(predictor="spline"), "predictor must be one of None, reuse, line"),
        (lambda: PABConfig(predictor="line"), "here the granularity is 'site': leave predictor out"),
        (lambda: AdaCacheConfig({1.0: 1}, granularity="block", predictor="line"), "here the granularity is 'block'"),
        (lambda: AdaCacheConfig({1.0: 1}, forecast=1, predictor="line"), "both say what a skipped step adds"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
