"""T-GATE against schedules worked out by hand."""

from __future__ import annotations

import pytest

from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.policies.tgate import TGATEConfig

ATTENTION, CROSS, MLP = Site(0, "s", "attn"), Site(0, "t", "cross"), Site(0, "t", "mlp")


def reused(config, num_steps, site):
    return [step for step in range(1, num_steps + 1) if not config.computes(step, [], site)]


def test_published_setting():
    config = TGATEConfig()  # m = 12, k = 2
    assert reused(config, 30, ATTENTION) == [2, 4, 6, 8, 10, 12]
    assert reused(config, 30, Site(3, "t", "attn")) == [2, 4, 6, 8, 10, 12]
    assert reused(config, 30, CROSS) == list(range(14, 31))
    assert reused(config, 30, MLP) == []


def test_other_intervals():
    assert reused(TGATEConfig(gate_step=7, interval=3), 10, ATTENTION) == [2, 3, 5, 6]
    assert reused(TGATEConfig(gate_step=7, interval=3), 10, CROSS) == [9, 10]


def test_what_is_kept():
    assert TGATEConfig().stores(ATTENTION) and TGATEConfig().stores(CROSS) and not TGATEConfig().stores(MLP)
    assert not TGATEConfig(interval=1).stores(ATTENTION)


@pytest.mark.parametrize("settings", [{"gate_step": 0}, {"interval": 0}])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match="must be a whole number of at least 1, got 0"):
        TGATEConfig(**settings)
