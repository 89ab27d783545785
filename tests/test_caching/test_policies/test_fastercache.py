"""FasterCache's reuse of attention against schedules and a forecast worked out by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import apply_cache
from opensora_adacache.caching.contract import Site
from opensora_adacache.caching.policies.fastercache import FasterCacheConfig

ATTENTION, CROSS, MLP = Site(0, "s", "attn"), Site(0, "t", "cross"), Site(0, "t", "mlp")


def reused(config, num_steps, site):
    return [step for step in range(1, num_steps + 1) if not config.computes(step, [], site)]


def test_published_setting():
    config = FasterCacheConfig()
    assert reused(config, 30, ATTENTION) == reused(config, 30, Site(9, "t", "attn")) == list(range(8, 31, 2))
    assert reused(config, 30, CROSS) == reused(config, 30, MLP) == []
    # 0.9·(step − 7) / 20 in the published code
    assert [config.trend_at(step, 30) for step in (8, 18, 30)] == pytest.approx([0.045, 0.495, 1.035])


def test_other_settings():
    assert reused(FasterCacheConfig(first_steps=2, interval=3), 10, ATTENTION) == [3, 4, 6, 7, 9, 10]
    assert FasterCacheConfig(first_steps=2, trend=1.0).trend_at(6, 10) == 0.5
    assert FasterCacheConfig().stores(ATTENTION) and not FasterCacheConfig().stores(CROSS)
    assert not FasterCacheConfig(interval=1).stores(ATTENTION)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_steps": 0}, "first_steps must be a whole number of at least 1, got 0"),
        ({"interval": 0}, "interval must be a whole number of at least 1, got 0"),
        ({"trend": -1}, "trend must be a number of at least 0, got -1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        FasterCacheConfig(**settings)


@torch.no_grad()
def test_a_reused_attention_moves_along_its_trend_and_gets_the_gate_of_its_step(golden_model):
    """Steps 1, 2, 3 and 5 compute, step 4 reuses; by hand with the model's own attention modules."""
    model = golden_model
    config = FasterCacheConfig(first_steps=3, trend=1.0)  # w is (4 − 3) / (5 − 3) at step 4
    x = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {"fps": torch.full((2,), 8.0), "height": torch.full((2,), 64.0), "width": torch.full((2,), 64.0)}
    times = [torch.full((2,), 1000.0 - 150 * i) for i in range(5)]

    def run():
        return [model(x * (1 - i / 9), t, y, **size) for i, t in enumerate(times)]

    with apply_cache(model, config, 5) as session:
        cached = run()
    step, kept = 0, {}

    def by_hand(module, inputs, output):
        last = kept.setdefault(module, {})
        last[step] = output if step != 4 else last[3] + (last[3] - last[2]) / 2
        return last[step]

    hooks = [block.attn.register_forward_hook(by_hand) for block in model.blocks()]
    expected = []
    for step, t in enumerate(times, start=1):
        expected.append(model(x * (1 - (step - 1) / 9), t, y, **size))
    for hook in hooks:
        hook.remove()
    plain = run()
    for index in (0, 1, 2, 4):
        assert torch.equal(cached[index], plain[index])
    torch.testing.assert_close(cached[3], expected[3])
    assert not torch.allclose(cached[3], plain[3], rtol=1e-3, atol=1e-5)
    assert [record.share for record in session.trace] == [1, 1, 1, pytest.approx(2 / 3), 1]
