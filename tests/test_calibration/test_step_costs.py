"""The costs of skipping steps, for residuals worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.calibration.step_costs import (
    StepMeasurements,
    error_lines,
    forecast_costs,
    mean_costs,
    moments,
    relative_reuse_errors,
    reuse_costs,
)


def measure(values, max_gap=3):
    """Measurements of a video whose stack residual is constant in space with these values."""
    measured = StepMeasurements(max_gap)
    for value in values:
        x = torch.full((2, 3, 4), 10.0)
        measured.observe(x, x + value, x * value)
    return measured


def test_errors_by_hand():
    measured = measure([1.0, 2.0, 4.0, 8.0])
    assert measured.reuse_errors == {(1, 2): 1, (1, 3): 3, (2, 3): 2, (1, 4): 7, (2, 4): 6, (3, 4): 4}
    # from 1 and 2 on to 4: 2 + 1·2 = 4, which misses 8 by 4
    assert measured.forecast_errors == {(1, 2, 3): 1, (1, 2, 4): 4, (1, 3, 4): 2.5, (2, 3, 4): 2}
    # reused from 1 at 3, the stack gives 10 + 1, of which −3 is error; all values are equal
    assert measured.moments[1, 3] == (11, -3, 121, -33) and measured.sizes == {1: 1, 2: 2, 3: 4, 4: 8}
    assert relative_reuse_errors(measured)[1, 4] == pytest.approx(7 / 8)
    assert measured.norm_ratios == pytest.approx({2: 2, 3: 2, 4: 2})
    assert measured.input_changes == pytest.approx({2: 1, 3: 1, 4: 1})
    assert measured.output_changes == pytest.approx({2: 1 / 11, 3: 2 / 12, 4: 4 / 14})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    """Sums of these sizes are beyond float16, and their means have more digits than bfloat16."""
    measured = StepMeasurements(2)
    for value in (1.0, 2.0, 4.0):
        x = torch.full((1, 100, 1000), 8.0, dtype=dtype)
        out = x + value
        out[:, :, ::7] += 0.25
        measured.observe(x, out, x * value)
    assert measured.input_changes == {2: 1.0, 3: 1.0}
    assert measured.sizes == pytest.approx({1: 1 + 0.143 / 4, 2: 2 + 0.143 / 4, 3: 4 + 0.143 / 4}, abs=1e-5)
    assert measured.reuse_errors == {(1, 2): 1.0, (1, 3): 3.0, (2, 3): 2.0}


def test_costs_by_hand():
    measured = measure([1.0, 2.0, 4.0, 8.0])
    weights = {2: 0.5, 3: 0.25}
    assert reuse_costs(measured, weights) == {(1, 3): 0.5, (1, 4): 0.5 + 0.75, (2, 4): 0.5}
    # summed to k itself, which computes
    assert forecast_costs(measured, 3) == {(1, 2, 3): 1, (1, 2, 4): 5, (1, 3, 4): 2.5, (2, 3, 4): 2}


def test_lines_through_the_errors_of_reuse():
    """Two values of v with errors on a line; of two videos, the line through all four points."""
    one, two = StepMeasurements(1), StepMeasurements(1)
    one.moments = {(1, 2): moments(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 1.5]))}
    assert error_lines([one]) == {(1, 2): pytest.approx((0.5, 0.0))}
    two.moments = {(1, 2): moments(torch.tensor([1.0, 3.0]), torch.tensor([1.5, 1.5]))}
    assert error_lines([one, two]) == {(1, 2): pytest.approx((0.25, 0.75))}
    one.moments = {(1, 2): moments(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 3.0]))}
    assert error_lines([one]) == {(1, 2): (0.0, 2.0)}  # no line, so the mean error


def test_a_video_on_a_line_is_forecast_without_error():
    measured = measure([1.0, 1.5, 2.0, 2.5, 3.0])
    assert max(forecast_costs(measured, 3).values()) == pytest.approx(0, abs=1e-6)


@given(st.integers(1, 4), st.lists(st.floats(-3, 3), min_size=5, max_size=14))
def test_only_the_residuals_that_are_needed_are_held(max_gap, values):
    measured = measure([value + 10 for value in values], max_gap)
    assert len(measured._residuals) <= 2 * max_gap
    assert {late - early for early, late in measured.reuse_errors} == set(range(1, max_gap + 1))
    wanted = {(i, j) for i in range(1, len(values) + 1) for j in range(i + 2, min(i + max_gap, len(values)) + 1)}
    assert reuse_costs(measured, dict.fromkeys(range(1, 20), 1.0)).keys() == wanted


def test_mean_of_costs():
    assert mean_costs([{(1, 2): 1.0}, {(1, 2): 3.0}]) == {(1, 2): 2.0}
