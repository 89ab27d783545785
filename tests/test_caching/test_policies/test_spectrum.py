"""Spectrum: its growing intervals and its regression, worked out by hand and by least squares."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.policies.spectrum import SpectrumConfig
from opensora_adacache.caching.residuals.store import ResidualStore

X = torch.zeros(2, 1, 1)


def after(times, values, **settings):
    residual = SpectrumConfig(**settings).build_residual(ResidualStore(), 2, X.device)
    for step, (time, value) in enumerate(zip(times, values, strict=True), start=1):
        residual.update(X + value, X, None, step, torch.full((2,), time))
        residual.end_computed_step([0, 1], [], time)
    return residual


def at(residual, time):
    return residual.add_to(X, None, 99, torch.full((2,), time)).flatten().tolist()


def test_schedule(drive, line):
    # intervals 2, 2.75, 3.5, 4.25 after step 3: 5, 7, 10, and 14 is beyond the end
    assert drive(SpectrumConfig(interval=2, growth=0.75, first_steps=3), line([1.0] * 12)) == [1, 2, 3, 5, 7, 10]
    assert drive(SpectrumConfig(interval=1, growth=0), line([1.0] * 8)) == list(range(1, 9))


def test_one_step_by_hand():
    # at t = 1000, τ = 1 and T₀ = T₁ = 1: (XᵀX + λ) = [[1.5, 1], [1, 1.5]], inverse [[1.2, −0.8], [−0.8, 1.2]];
    # XᵀH = (3, 3), coefficients (1.2, 1.2); at t = 750, τ = 0.5: 1.2 + 0.6
    residual = after([1000.0], [3.0], degree=1, ridge=0.5)
    assert at(residual, 750.0) == pytest.approx([1.8, 1.8])


def test_polynomials_are_fitted_if_the_ridge_is_small():
    def cubic(t):
        return 1 + (t / 500) ** 3 - 2 * (t / 500)

    times = [1000.0, 900.0, 800.0, 650.0, 500.0, 400.0]
    residual = after(times, map(cubic, times), degree=3, ridge=1e-9)
    assert at(residual, 300.0) == pytest.approx([cubic(300.0)] * 2, abs=1e-3)


def test_the_line_that_is_mixed_in():
    # the line through (900, 2) and (800, 5) gives 11 at 600
    alone = at(after([1000.0, 900.0, 800.0], [1.0, 2.0, 5.0]), 600.0)[0]
    mixed = at(after([1000.0, 900.0, 800.0], [1.0, 2.0, 5.0], blend=0.25), 600.0)
    assert mixed == pytest.approx([0.25 * alone + 0.75 * 11] * 2, rel=1e-4)


def test_rows_compute_at_steps_of_their_own():
    residual, rows = after([1000.0, 900.0], [1.0, 2.0]), torch.tensor([1])
    residual.update(X[rows] + 5, X[rows], rows, 4, torch.full((2,), 700.0))
    residual.end_computed_step([1], [], 700.0)
    assert at(residual, 600.0) == pytest.approx(
        [
            at(after([1000.0, 900.0], [1.0, 2.0]), 600.0)[0],
            at(after([1000.0, 900.0, 700.0], [1.0, 2.0, 5.0]), 600.0)[0],
        ],
        rel=1e-4,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"growth": -1}, "growth must be a number of at least 0, got -1"),
        ({"blend": 0}, "blend must be above 0 and at most 1, got 0"),
        ({"ridge": 0}, "ridge must be above 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SpectrumConfig(**settings)
