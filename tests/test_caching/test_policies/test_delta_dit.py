"""Δ-DiT against schedules worked out by hand."""

from __future__ import annotations

import pytest

from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.policies.delta_dit import DeltaDiTConfig


def reused(config, num_steps, layer):
    return [s for s in range(1, num_steps + 1) if not config.computes(s, [], Site(layer, "t", "mlp"))]


def test_published_setting():
    config = DeltaDiTConfig()
    assert [reused(config, 30, layer) for layer in (0, 5, 6)] == [[2, 4, 6], [2, 4, 6], []]


def test_rear_layers_early_and_front_layers_late():
    config = DeltaDiTConfig(interval=3, gate_step=4, early=(2, 3), late=(0, 1))
    # early phase: steps 1 to 4, computing at 1 and 4; late phase: from 5, computing at 5, 8, …
    assert reused(config, 10, 3) == [2, 3]
    assert reused(config, 10, 0) == [6, 7, 9, 10]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeltaDiTConfig(interval=0), "interval must be a whole number of at least 1"),
        (lambda: DeltaDiTConfig(early=(3, 2)), r"early must be the first and the last layer .* got \(3, 2\)"),
        (lambda: DeltaDiTConfig(late=(1,)), "late must be the first and the last layer"),
        (lambda: DeltaDiTConfig().check_run(30, 4), r"early must lie in layers 0\.\.3, got \(0, 5\)"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
