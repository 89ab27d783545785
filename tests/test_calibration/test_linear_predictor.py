"""L2P's fit: the products of residuals, weights of known trajectories, and the schedule."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from opensora_adacache.adapters.recorder import record_stack
from opensora_adacache.caching.policies.l2p import L2PConfig
from opensora_adacache.calibration.linear_predictor import LinearPredictors, fit_weights
from opensora_adacache.calibration.products import ResidualProducts, rms


def runs_of(*trajectories):
    """Return runs whose residuals are known, [n, elements] each."""
    products = [np.array(t, dtype=float) @ np.array(t, dtype=float).T / len(t[0]) for t in trajectories]
    n = len(trajectories[0])
    lengths = dict.fromkeys(range(1, n + 1), 1 / n)
    return SimpleNamespace(num_steps=n, products=products, step_lengths=lengths, jobs=[0], mean_psnr=lambda cache: 0.0)


@torch.no_grad()
def test_products_are_those_of_the_residuals(golden_model):
    z = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {name: torch.full((2,), 64.0) for name in ("fps", "height", "width")}
    residuals, measured = [], ResidualProducts()

    def observe(x, out, modulated):
        residuals.append(out - x)
        measured.observe(x, out, modulated)

    with record_stack(golden_model, observe):
        for step in range(3):
            golden_model(z * (1 - step / 4), torch.full((2,), 900.0 - 300 * step), y, **size)
    found = measured.matrix()
    expected = [[(one * other).mean().item() for one in residuals] for other in residuals]
    assert found == pytest.approx(np.array(expected), rel=1e-4) and (found == found.T).all()
    assert rms(found, np.array([1.0, 0.0, -1.0])) == pytest.approx(
        (residuals[0] - residuals[2]).square().mean().sqrt().item(), rel=1e-3
    )


def test_a_residual_that_is_a_combination_of_others_is_found():
    # r₄ = 3·r₁ − 2·r₃
    one, two, three = np.eye(3)
    products = runs_of([one, two, three, 3 * one - 2 * three]).products[0]
    assert fit_weights(products, [1, 2, 3], 4) == pytest.approx([3.0, 0.0, -2.0], abs=1e-3)


def test_without_a_difference_the_weights_are_those_of_reuse():
    products = np.ones((4, 4))
    assert fit_weights(products, [1, 2, 3], 4) == pytest.approx([0.0, 0.0, 1.0])


def test_a_plan_predicts_the_uncached_runs():
    """Steps 4, 6 and 7 of nine follow from earlier ones, so computing the other six makes no error."""
    one, two, three, five, eight, nine = np.eye(6)
    trajectory = [one, two, three, one + two, five, 2 * five, three - five, eight, nine]
    kind = LinearPredictors(runs_of(trajectory))
    kind.runs.mean_psnr = lambda cache: -kind.error(cache.steps)
    found = kind.plan(L2PConfig(steps=(1,)), 6)
    assert found.steps == (1, 2, 3, 5, 8, 9)
    assert [len(row) for row in found.weights] == [3, 4, 4]
    assert found.weights[0] == pytest.approx((1.0, 1.0, 0.0), abs=1e-3)
    assert found.weights[1] == pytest.approx((0.0, 0.0, 0.0, 2.0), abs=1e-3)
    assert found.weights[2] == pytest.approx((0.0, 0.0, 1.0, -1.0), abs=1e-3)
    assert kind.error(found.steps) == pytest.approx(0.0, abs=1e-3)


def test_the_cached_videos_choose_the_number_of_first_steps():
    kind = LinearPredictors(runs_of(np.random.default_rng(0).normal(size=(10, 40))))
    tried = []

    def mean_psnr(cache):
        tried.append(cache.steps)
        return float(cache.steps[:4] == (1, 2, 3, 4))

    kind.runs.mean_psnr = mean_psnr
    assert kind.plan(L2PConfig(steps=(1,)), 6).steps[:4] == (1, 2, 3, 4)
    assert len(tried) == len(set(tried)) > 1 and all(len(steps) == 6 for steps in tried)


def test_the_error_of_a_schedule_by_hand():
    # with only step 1, steps 2 and 3 at right angles to it are forecast as zero: errors |r₂| = 2 and |r₃| = 1
    kind = LinearPredictors(runs_of([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]))
    assert kind.error((1,)) == pytest.approx((2 + 1) / 3**0.5 / 3, rel=1e-3)
    assert kind.error((1, 2, 3)) == 0.0


def test_each_number_of_computed_steps_has_a_plan():
    kind = LinearPredictors(runs_of(np.random.default_rng(0).normal(size=(9, 40))))
    for settings, count in zip(kind.family(L2PConfig(steps=(1,))), range(9, 0, -1), strict=True):
        assert len(settings.steps) == count and settings.steps[0] == 1
        settings.check_run(9, 1)
    assert kind.for_speedup(L2PConfig(steps=(1,)), 3).computed_steps == 3
