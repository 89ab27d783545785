"""MeanCache: its schedule, and its average velocities by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.policies.meancache import MeanCacheConfig, span_weights
from opensora_adacache.caching.residuals.store import ResidualStore

X = torch.zeros(1, 1, 1)


def config(steps, spans, num_steps):
    return MeanCacheConfig(steps=steps, spans=spans, lengths=(0.1,) * num_steps)


def forecast(config, values, step):
    """Return the forecast at a step after computed steps {step: value}; the other steps are forecast on the way."""
    residual = config.build_residual(ResidualStore(), 1, X.device)
    for earlier in range(1, step):
        if earlier in values:
            residual.update(X + values[earlier], X, None, earlier, torch.zeros(1))
        else:
            residual.add_to(X, None, earlier, torch.zeros(1))
    return residual.add_to(X, None, step, torch.zeros(1)).item()


def test_schedule(drive, line):
    assert drive(config((1, 2, 4, 6), (1, 2, 1, 1), 6), line([1.0] * 6)) == [1, 2, 4, 6]


def test_a_span_of_two_by_hand():
    # u = (2 + 6)/2 = 4 over two steps: step 3 is 6 + (4 − 2)/2 = 7, and step 4 follows from 6 and 7: 7 + (6.5 − 6)/2
    found = config((1, 2), (1, 2), 4)
    assert forecast(found, {1: 2.0, 2: 6.0}, 3) == pytest.approx(7.0)
    assert forecast(found, {1: 2.0, 2: 6.0}, 4) == pytest.approx(7.25)


def test_rows_that_compute_at_a_skipped_step_leave_the_others_alone():
    """As those of a video whose numbers are broken do; the forecasts of the others are those of the test above."""
    residual, x, t = config((1, 2), (1, 2), 4).build_residual(ResidualStore(), 2, X.device), X.repeat(2, 1, 1), X[0, 0]
    for step, value in enumerate((2.0, 6.0), start=1):
        residual.update(x + value, x, None, step, t)
    for step, expected in ((3, 7.0), (4, 7.25)):
        residual.update(x[:1] + 9.0, x[:1], torch.tensor([0]), step, t)
        assert residual.add_to(x[1:], torch.tensor([1]), step, t).item() == expected


def test_a_span_of_one_is_reuse():
    assert forecast(config((1, 2, 3), (1, 1, 1), 5), {1: 2.0, 2: 6.0, 3: 5.0}, 5) == 5.0


def test_each_interval_has_its_span():
    # step 2 reuses step 1; step 4 takes steps 1 to 3, that is 2, 2 and 8: 8 + (4 − 2)/3
    found = config((1, 3), (1, 3), 4)
    assert forecast(found, {1: 2.0}, 2) == 2.0
    assert forecast(found, {1: 2.0, 3: 8.0}, 4) == pytest.approx(8 + 2 / 3)


def test_steps_of_other_lengths_by_hand():
    # lengths 1, 2 and 3: u = (r₁ + 2·r₂)/3 and h/H = 1
    weights = span_weights(3, 5, [1.0, 2.0, 3.0])
    assert weights == {1: pytest.approx(-2 / 3), 2: pytest.approx(5 / 3)}


def test_only_residuals_within_the_spans_are_kept():
    assert config((1, 2, 5, 6), (1, 2, 1, 2), 8).own_forecast_residuals == 1
    assert config((1, 3), (1, 1), 4).own_forecast_residuals == 0
    assert config((1, 2, 3, 4, 20), (1, 1, 1, 4, 1), 20).own_forecast_residuals == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": (1, 2), "spans": (1,), "lengths": (1,) * 4}, "spans must have a whole number"),
        ({"steps": (1,), "spans": (0,), "lengths": (1,)}, r"at least 1 for each of the 1 computed steps, got \(0,\)"),
        ({"steps": (1,), "spans": (1,)}, "lengths must be numbers above 0"),
        ({"steps": (1,), "spans": (1,), "lengths": (1, 0)}, "lengths must be numbers above 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        MeanCacheConfig(**settings)


def test_lengths_of_another_number_of_steps():
    with pytest.raises(ValueError, match="lengths belong to 4 steps, but the run has 30"):
        config((1, 2), (1, 1), 4).check_run(30, 4)
