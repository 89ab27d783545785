"""L2P: its schedule, its weighted sums by hand, and what it keeps."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.policies.l2p import L2PConfig
from opensora_adacache.caching.residuals.store import ResidualStore

X = torch.zeros(2, 1, 1)
# step 3 is 2·r₂ − r₁, step 5 is ½·(r₁ + r₄), step 6 is r₄
WEIGHTS = ((-1.0, 2.0), (0.5, 0.0, 0.5), (0.0, 0.0, 1.0))
CONFIG = L2PConfig(steps=(1, 2, 4), weights=WEIGHTS)


def run(config, values, dtype=torch.float32):
    """Return the residual after computed steps {step: value}, and its store."""
    store, x = ResidualStore(), X.to(dtype)
    residual = config.build_residual(store, 2, X.device)
    for step, value in values.items():
        residual.update(x + value, x, None, step, torch.full((2,), 500.0))
        residual.end_computed_step([0, 1], [], 500.0)
    return residual, store


def at(residual, step, rows=None):
    x = X if rows is None else X[rows]
    return residual.add_to(x, rows, step, torch.full((len(x),), 500.0)).flatten().tolist()


def test_schedule(drive, line):
    assert drive(CONFIG, line([1.0] * 6)) == [1, 2, 4]


def test_forecasts_by_hand():
    residual, _ = run(CONFIG, {1: 1.0, 2: 4.0})
    assert at(residual, 3) == [7.0, 7.0] and at(residual, 3, torch.tensor([1])) == [7.0]
    residual, _ = run(CONFIG, {1: 1.0, 2: 4.0, 4: 9.0})
    assert at(residual, 5) == [5.0, 5.0] and at(residual, 6) == [9.0, 9.0]


def test_residuals_that_no_later_step_uses_are_overwritten():
    # step 2 is used for the last time at step 3, so step 4 takes its place
    residual, store = run(CONFIG, {1: 1.0, 2: 4.0, 4: 9.0})
    assert store.num_bytes() == store.peak_bytes == 2 * X.numel() * 4 and CONFIG.own_forecast_residuals == 1
    assert L2PConfig(steps=(1, 2)).own_forecast_residuals == 0


def test_sums_do_not_round_in_half_precision():
    """1001·4 − 1000·4 is exact although 4004 is not a number of bfloat16."""
    residual, _ = run(L2PConfig(steps=(1, 2), weights=((-1000.0, 1001.0),)), {1: 4.0, 2: 4.0}, torch.bfloat16)
    x = X.bfloat16()
    assert residual.add_to(x, None, 3, torch.full((2,), 500.0)).flatten().tolist() == [4.0, 4.0]


def test_a_step_that_some_rows_compute_beside_the_schedule_changes_nothing():
    residual, store = run(CONFIG, {1: 1.0, 2: 4.0})
    rows = torch.tensor([1])
    residual.update(X[rows] + 8, X[rows], rows, 3, torch.full((2,), 500.0))
    assert at(residual, 3) == [7.0, 7.0]


def test_rows_that_a_computed_step_leaves_out_keep_their_last_residual():
    """At step 3, which no forecast uses, and at step 4, which takes its place."""
    config = L2PConfig(steps=(1, 2, 3, 4), weights=((0.0, 0.5, 0.0, 0.5),))
    residual, store = run(config, {1: 1.0, 2: 4.0, 3: 6.0})
    rows = torch.tensor([1])
    residual.update(X[rows] + 10, X[rows], rows, 4, torch.full((2,), 500.0))
    assert at(residual, 5) == [(4.0 + 6.0) / 2, (4.0 + 10.0) / 2]
    assert store.peak_bytes == 2 * X.numel() * 4


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": (1, 3)},
        {"steps": (1, 2), "weights": ((1.0,),)},
        {"steps": (1, 2), "weights": ((1.0, float("nan")),)},
        {"steps": (1, 9), "weights": ((1.0,),)},
    ],
)
def test_weights_that_do_not_fit_the_steps(settings):
    with pytest.raises(ValueError, match="weights must have a row for each skipped step"):
        L2PConfig(**settings)


def test_weights_of_another_number_of_steps():
    with pytest.raises(ValueError, match="weights belong to 6 steps, but the run has 30"):
        CONFIG.check_run(30, 4)
