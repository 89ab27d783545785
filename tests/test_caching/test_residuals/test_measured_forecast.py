"""Forecasts of the stack residual over the timestep, with a measured gain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.caching.residuals.measured_forecast import MeasuredForecast
from opensora_adacache.caching.residuals.store import ResidualStore

X = torch.zeros(3, 2, 2)


def times(timestep):
    return torch.full((3,), float(timestep))


def compute(stack, residual, timestep, rows=None):
    """Pass the residual of a computed step for these rows; return row → ‖r − forecast‖₂² and ‖r‖₂²."""
    numbers = [0, 1, 2] if rows is None else rows
    index = None if rows is None else torch.tensor(rows)
    stack.update(X[numbers] + residual, X[numbers], index, 0, times(timestep))
    sums = stack.take_measurements()
    return stack.end_computed_step(numbers, [] if sums is None else sums.tolist(), float(timestep))


def filled(order, residuals):
    """Pass {timestep: residual} for all rows; return the forecast object and the error of its last forecast."""
    stack, missed = MeasuredForecast(ResidualStore(), order, 3, X.device), {}
    for timestep, residual in residuals.items():
        missed = compute(stack, residual, timestep)
    return stack, missed


def gains(stack):
    return [row.gains for row in stack.rows]


def at(stack, timestep):
    return stack.add_to(X, None, 0, times(timestep))[:, 0, 0].tolist()


def test_too_few_computed_steps_are_reused():
    assert at(filled(1, {1000: 5.0})[0], 900) == [5.0] * 3


def test_a_line_in_the_timestep_whatever_the_steps_between():
    stack, _ = filled(1, {1000: 5.0, 900: 6.0})  # 0.01 per unit of time
    assert at(stack, 600) == pytest.approx([9.0] * 3)
    compute(stack, 7.5, 750)
    assert at(stack, 700) == pytest.approx([8.0] * 3)


def test_a_parabola():
    # r = (t / 100)²; order 2 needs three computed steps
    stack, _ = filled(2, {1000: 100.0, 900: 81.0, 700: 49.0})
    for row in stack.rows:
        row.gains = [1.0, 1.0]
    stack.end_computed_step([], [], 700.0)  # only updates the gains
    assert at(stack, 400) == pytest.approx([16.0] * 3)


def test_the_gain_is_how_far_the_last_forecast_was_right():
    stack, missed = filled(1, {1000: 0.0, 900: 1.0, 800: 1.25})  # the forecast was 2; a quarter of its change was right
    assert gains(stack) == [[0.25]] * 3
    assert at(stack, 700) == pytest.approx([1.25 + 0.25 * 0.25] * 3)
    # over half the interval the forecast gets more weight: 1 - 0.75 / 2
    assert at(stack, 750) == pytest.approx([1.25 + 0.625 * 0.125] * 3)
    # each row has four numbers, and each was off by 0.75
    assert [missed[row] for row in range(3)] == [pytest.approx((4 * 0.75**2, 4 * 1.25**2))] * 3


def test_both_terms_have_a_gain_each():
    # (t / 100)² falls by 13 until 600: the line gives 16, the second-order term subtracts 3. At 700 the line gave 38
    # instead of 32, so over half that interval its weight is 1 - 6 / 38 / 2; the unmeasured second-order term has 1 / 2
    stack, missed = filled(2, {1000: 100.0, 900: 81.0, 700: 49.0, 600: 36.0})
    assert gains(stack) == [pytest.approx([13 / 16, 0.0])] * 3
    assert missed[0][0] == pytest.approx(4 * (13 - 16 * (1 - 3 / 38) + 3 / 2) ** 2, rel=1e-3)
    # off by 3 where the line gives 1 instead of 2; the second-order term gives exactly what remains
    stack, _ = filled(2, {1000: 0.0, 900: 1.0, 800: 3.0, 700: 5.5})
    assert gains(stack) == [pytest.approx([1.0, 0.5])] * 3
    # half the interval on: the line gives 1.25, the second-order term 1/2 · 3/2 of 0.5, with weight 1 - 0.5 / 2
    assert at(stack, 650) == pytest.approx([5.5 + 1.25 + 0.75 * 0.5 * 0.375] * 3)


def test_errors_are_those_of_the_forecast_that_was_used():
    torch.manual_seed(0)
    stack = MeasuredForecast(ResidualStore(), 2, 3, X.device)
    for number, timestep in enumerate((1000, 950, 800, 780, 600, 500, 350)):
        truth = torch.randn(3, 2, 2)
        expected = stack.add_to(X, None, 0, times(timestep)) if number else None
        measured = compute(stack, truth, timestep)
        if expected is not None:
            missed = (truth - expected).square().sum((1, 2))
            assert [measured[row][0] for row in range(3)] == pytest.approx(missed.tolist(), rel=1e-4)


@pytest.mark.parametrize("residual", [0.5, 1.0])
def test_a_forecast_that_pointed_the_wrong_way_becomes_reuse(residual):
    stack, _ = filled(1, {1000: 0.0, 900: 1.0, 800: residual})
    assert at(stack, 700) == [residual] * 3


def test_the_gain_never_goes_beyond_the_line():
    stack, _ = filled(1, {1000: 0.0, 900: 1.0, 800: 9.0})
    assert gains(stack) == [[1.0]] * 3


def test_rows_compute_at_steps_of_their_own():
    stack, _ = filled(1, {1000: 0.0, 900: 1.0})
    assert sorted(compute(stack, 1.5, 800, rows=[0, 2])) == [0, 2]
    # rows 0 and 2: 1.5 + 0.5 · 0.5; row 1: 1 + 2 along its line
    assert at(stack, 700) == pytest.approx([1.75, 3.0, 1.75])
    assert stack.add_to(X[1:2], torch.tensor([1]), 0, times(700))[0, 0, 0].item() == pytest.approx(3.0)


@pytest.mark.parametrize("order", [1, 2])
def test_one_more_tensor_for_each_order(order):
    stack, _ = filled(order, {1000: 0.0, 900: 1.0, 800: 3.0, 700: 2.0})
    assert stack.store.num_bytes() == stack.store.peak_bytes == (1 + order) * X.numel() * 4


def test_gradients_are_not_kept():
    stack = MeasuredForecast(ResidualStore(), 2, 3, X.device)
    for timestep in (1000, 900, 800, 700):
        compute(stack, torch.ones(3, 2, 2, requires_grad=True), timestep)
    assert not stack.add_to(X, None, 0, times(650)).requires_grad


@pytest.mark.parametrize("order", [1, 2])
def test_timesteps_that_half_precision_cannot_tell_apart(order):
    stack, _ = filled(order, {1000: 0.0, 999: 1.0})
    compute(stack, 2.0, 999)
    compute(stack, 4.0, 998)
    assert all(torch.isfinite(torch.tensor(at(stack, 997))))


@given(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3, unique=True), st.floats(0.5, 2))
def test_with_the_gain_the_last_step_would_have_been_met_at_least_as_well_as_by_line_or_reuse(values, gap):
    first, second, truth = values
    stack, _ = filled(1, {1000: first, 900: second, 900 - 100 * gap: truth})
    gain, line = stack.rows[0].gains[0], (second - first) * gap
    missed = [abs(truth - second - part * line) for part in (gain, 0.0, 1.0)]
    assert 0 <= gain <= 1 and missed[0] <= min(missed[1:]) + 1e-3 * (1 + abs(line))
