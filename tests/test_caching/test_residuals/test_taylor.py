"""Reuse and extrapolation of the stack residual."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.residuals.taylor import TaylorResidual

X = torch.zeros(3, 2, 2)
T = torch.zeros(3)  # a Taylor series uses steps instead of timesteps


def filled(order, values, rows=None):
    """Pass residuals {step: value} for all rows; return a function of the step that gives each row's first number."""
    stack = TaylorResidual(ResidualStore(), order, 3, X.device)
    for step, value in values.items():
        stack.update(X + value, X, None, step, T)
    return stack


def at(stack, step):
    return stack.add_to(X, None, step, T)[:, 0, 0].tolist()


def test_order_0_reuses():
    assert at(filled(0, {1: 5.0, 4: 8.0}), 6) == [8.0] * 3


def test_order_1_extrapolates_a_line_exactly():
    stack = filled(1, {1: 5.0, 4: 8.0})
    assert at(stack, 6) == pytest.approx([10.0] * 3)
    assert stack.store.num_bytes() == 2 * X.numel() * 4


def test_too_few_steps_fall_back_to_a_lower_order():
    assert at(filled(1, {1: 5.0}), 3) == [5.0] * 3
    assert at(filled(2, {1: 5.0, 2: 6.0}), 4) == pytest.approx([8.0] * 3)


def test_order_2_uses_the_second_difference():
    # values 1, 4, 9 at steps 1, 2, 3: first difference 5, second (5 − 3) / 1 = 2; two steps later: 9 + 10 + 4
    assert at(filled(2, {1: 1.0, 2: 4.0, 3: 9.0}), 5) == pytest.approx([23.0] * 3)


def test_rows_compute_at_steps_of_their_own():
    stack = filled(1, {1: 0.0, 2: 1.0})
    rows = torch.tensor([0, 2])
    stack.update(X[rows] + 7.0, X[rows], rows, 4, T)  # (7 − 1) / 2 = 3 per step, for two rows
    assert at(stack, 5) == pytest.approx([10.0, 4.0, 10.0])
