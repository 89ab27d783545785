"""HiCache: its schedule and its forecast, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.policies.hicache import HiCacheConfig
from opensora_adacache.caching.residuals.store import ResidualStore

X = torch.zeros(2, 1, 1)


def test_schedule(drive, line):
    assert drive(HiCacheConfig(interval=3, first_steps=2), line([1.0] * 10)) == [1, 2, 5, 8, 10]


@pytest.mark.parametrize(
    ("order", "sigma", "expected"),
    [
        # residuals 1, 4, 9 at steps 1, 2, 3: differences 5 and 2; two steps later
        (1, 0.5, 9 + 5 * 0.5 * 2 * (0.5 * 2)),  # σ·H₁(σk) = 0.5·2·1 = 1
        (2, 0.5, 9 + 5 * 1.0 + 2 / 2 * 0.25 * (4 * 1 - 2)),  # σ²·H₂(1) = 0.25·2
        (2, 1.0, 9 + 5 * 4.0 + 2 / 2 * (4 * 4 - 2)),
    ],
)
def test_forecast(order, sigma, expected):
    residual = HiCacheConfig(order=order, sigma=sigma).build_residual(ResidualStore(), 2, X.device)
    for step, value in enumerate((1.0, 4.0, 9.0), start=1):
        residual.update(X + value, X, None, step, X[:, 0, 0])
    assert residual.add_to(X, None, 5, X[:, 0, 0]).flatten().tolist() == [expected] * 2


def test_after_one_computed_step_it_reuses():
    residual = HiCacheConfig().build_residual(ResidualStore(), 2, X.device)
    residual.update(X + 3, X, None, 1, X[:, 0, 0])
    assert residual.add_to(X, None, 4, X[:, 0, 0]).flatten().tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"order": 3}, "order must be one of 1, 2, got 3"), ({"sigma": 0}, "sigma must be above 0 and at most 1, got 0")],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        HiCacheConfig(**settings)
