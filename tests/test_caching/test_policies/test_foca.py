"""FoCa: its schedule and its forecast, worked out by hand and step by step."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.policies.foca import FoCaConfig
from opensora_adacache.caching.residuals.store import ResidualStore

X = torch.zeros(3, 1, 1)
T = X[:, 0, 0]


def residual_after(values):
    residual = FoCaConfig().build_residual(ResidualStore(), 3, X.device)
    for step, value in values.items():
        residual.update(X + value, X, None, step, T)
    return residual


def at(residual, step):
    return residual.add_to(X, None, step, T).flatten().tolist()


def test_schedule(drive, line):
    assert drive(FoCaConfig(interval=4, first_steps=1), line([1.0] * 10)) == [1, 5, 9, 10]


def test_after_one_computed_step_it_reuses():
    assert at(residual_after({1: 5.0}), 3) == [5.0] * 3


def test_neighbouring_computed_steps_give_a_line():
    assert at(residual_after({1: 1.0, 2: 4.0}), 5) == [13.0] * 3


def test_the_forecast_by_hand():
    # 0 and 2 at steps 1 and 2, then 10 at step 4. Step 3 was forecast as 4, so the local slope is 6 and D is 4:
    # step 5: 10 + (4 + 6) / 2 = 15; step 6: 15 + (4 + 5) / 2 = 19.5
    residual = residual_after({1: 0.0, 2: 2.0, 4: 10.0})
    assert at(residual, 5) == [15.0] * 3 and at(residual, 6) == [19.5] * 3


def test_the_closed_form_is_the_loop():
    values = {1: 0.5, 2: 1.0, 5: -2.0, 9: 3.0}
    known, steps = dict(values), sorted(values)
    for step in range(3, 13):
        if step not in known:
            last, earlier = [one for one in steps if one < step][-1:-3:-1]
            slope = (values[last] - values[earlier]) / (last - earlier)
            now, before = known[step - 1], known[step - 2]
            forecast = (4 * now - before + 2 * (now - before)) / 3
            known[step] = now + (slope + forecast - now) / 2
    residual = residual_after(values)
    assert [at(residual, step)[0] for step in (10, 11, 12)] == pytest.approx([known[step] for step in (10, 11, 12)])


def test_rows_compute_at_steps_of_their_own():
    residual, rows = residual_after({1: 0.0, 2: 2.0}), torch.tensor([0, 2])
    residual.update(X[rows] + 10, X[rows], rows, 4, T)
    assert at(residual, 6) == [19.5, 10.0, 19.5]  # the second row goes on along its line
