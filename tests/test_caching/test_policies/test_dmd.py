"""DMD: its schedule, exponentials and oscillations that it continues exactly, and what it does without a fit."""

from __future__ import annotations

import math

import pytest
import torch

from opensora_adacache.caching.policies.dmd import DMDConfig
from opensora_adacache.caching.residuals.store import ResidualStore

GENERATOR = torch.Generator().manual_seed(0)
A, B = torch.randn(2, 2, 3, 4, generator=GENERATOR)
T = torch.zeros(2)


def after(steps, curve, history=6):
    residual = DMDConfig(history=history).build_residual(ResidualStore(), 2, A.device)
    for step in steps:
        residual.update(curve(step), torch.zeros_like(A), None, step, T)
        residual.end_computed_step([0, 1], residual.take_measurements().tolist(), 0.0)
    return residual


def at(residual, step):
    return residual.add_to(torch.zeros_like(A), None, step, T)


def test_schedule(drive, line):
    assert drive(DMDConfig(interval=3, first_steps=1), line([1.0] * 9)) == [1, 4, 7, 9]


@pytest.mark.parametrize("history", [4, 6])
@pytest.mark.parametrize(
    "curve",
    [
        lambda s: 0.8**s * A,
        lambda s: 0.9**s * A + 1.05**s * B,
        lambda s: 0.95**s * (math.cos(0.3 * s) * A + math.sin(0.3 * s) * B),
    ],
    ids=["one", "two", "oscillation"],
)
def test_exponentials_go_on_exactly(curve, history):
    residual = after((1, 3, 5, 7, 9, 11), curve, history)
    for step in (12, 13, 15):  # 12 lies half an interval ahead
        torch.testing.assert_close(at(residual, step), curve(step), rtol=1e-3, atol=1e-4)


def test_each_row_has_modes_of_its_own():
    def curve(step):
        return torch.stack([0.8**step * A[0], 1.1**step * A[1]])

    torch.testing.assert_close(at(after((1, 2, 3, 4), curve), 6), curve(6), rtol=1e-4, atol=1e-5)


def test_three_residuals_or_unequal_intervals_give_a_line():
    def curve(step):
        return 0.8**step * A

    for steps in ((1, 3, 5), (1, 2, 3, 5)):
        residual = after(steps, curve)
        slope = (curve(steps[-1]) - curve(steps[-2])) / (steps[-1] - steps[-2])
        torch.testing.assert_close(at(residual, 7), curve(5) + 2 * slope)


def test_a_new_cadence_gives_a_new_fit():
    def curve(step):
        return 0.9**step * A + 1.05**step * B

    torch.testing.assert_close(at(after((1, 2, 3, 4, 7, 10, 13), curve), 15), curve(15), rtol=1e-3, atol=1e-4)


def test_residuals_of_zero_are_reused():
    assert not at(after((1, 2, 3, 4, 5), lambda step: 0 * A), 7).any()


def test_bad_settings():
    with pytest.raises(ValueError, match="history must be a whole number of at least 4, got 3"):
        DMDConfig(history=3)
