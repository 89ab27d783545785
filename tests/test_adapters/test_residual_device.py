"""Residuals held on the CPU give the same videos, bit by bit, with every kind of residual and split batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.dmd import DMDConfig
from opensora_adacache.caching.policies.easycache import EasyCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.policies.spectrum import SpectrumConfig
from opensora_adacache.caching.policies.tafc import TAFCConfig
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.residuals.store import ResidualStore

CONFIGS = {
    "AdaCache": AdaCacheConfig({0.3: 3, 1.0: 1}, moreg=MoRegConfig(steps=(0.2, 0.8))),
    "AdaCache by block": AdaCacheConfig({1e9: 3, 1e10: 1}, granularity="block"),
    "AdaCache, forecast": AdaCacheConfig({0.3: 3, 1.0: 1}, forecast=2, corrector=0.5, decision="sample"),
    "ForecastCache": ForecastCacheConfig(
        speedup=2, corrector=0.5, sensitivity=(2.0, 0.5), decision="sample", budget_over="batch"
    ),
    "EasyCache": EasyCacheConfig(threshold=0.2),
    "FBCache": FBCacheConfig(threshold=0.12, decision="sample"),
    "DiCache": DiCacheConfig(threshold=0.3, decision="sample"),
    "PAB": PABConfig(mlp_layers=(0, 2)),
    "TaylorSeer": TaylorSeerConfig(interval=3, order=2),
    "DMD": DMDConfig(interval=2, first_steps=4),
    "Spectrum": SpectrumConfig(blend=0.5),
    "TAFC": TAFCConfig(threshold=2.0, first_steps=2, decision="sample"),
}

QUICK = ("AdaCache, forecast", "ForecastCache")


@pytest.mark.filterwarnings("ignore:.*Open-Sora:UserWarning")
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_the_same_videos(golden_model, sample, name):
    config = CONFIGS[name]
    with apply_cache(golden_model, config, 12) as session:
        expected, traces, peak = sample(golden_model, 2), session.traces, session.peak_cache_bytes
    assert any(not record.computed or record.share for record in traces[0])
    with apply_cache(golden_model, replace(config, residual_device="cpu"), 12) as session:
        assert torch.equal(sample(golden_model, 2), expected)
    assert [[record.computed for record in trace] for trace in session.traces] == [
        [record.computed for record in trace] for trace in traces
    ]
    assert session.peak_cache_bytes == peak


@pytest.mark.parametrize(
    "name",
    ["latte", pytest.param("wan-2.1", marks=pytest.mark.slow), pytest.param("cogvideox", marks=pytest.mark.slow)],
)
def test_the_same_outputs_of_diffusers_models(tiny_models, name):
    tiny = tiny_models[name]
    model = tiny.make()
    config = ForecastCacheConfig(computed_steps=5, order=2, sensitivity=(2.0, 1.0, 0.5), decision="sample")
    with apply_cache(model, config, 7):
        expected = tiny.sample(model, [1, 2])
    with apply_cache(model, replace(config, residual_device="cpu"), 7):
        assert torch.equal(tiny.sample(model, [1, 2]), expected)


@pytest.mark.parametrize(
    ("config", "computed", "reused"),
    [
        (AdaCacheConfig({1e9: 3, 1e10: 1}), (1, 2), (1, 0)),
        (ForecastCacheConfig(computed_steps=5, sensitivity=(2.0, 0.5)), (2, 2), (2, 0)),
        (ForecastCacheConfig(computed_steps=5, order=2, sensitivity=(2.0, 0.5)), (3, 3), (3, 0)),
    ],
)
def test_residuals_that_a_step_moves(golden_model, sample, monkeypatch, config, computed, reused):
    """To the device and back: the table in docs/guide/policies.md."""
    moves, steps = {"get": 0, "put": 0}, []
    for name in moves:
        original = getattr(ResidualStore, name)

        def counted(self, *args, original=original, name=name):
            moves[name] += 1
            return original(self, *args)

        monkeypatch.setattr(ResidualStore, name, counted)
    with apply_cache(golden_model, replace(config, residual_device="cpu"), 12) as session:
        session.on_step = lambda step: steps.append((step.computed[0], moves["get"], moves["put"]))
        sample(golden_model)
    found = {
        (did, gets - before[1], puts - before[2])
        for before, (did, gets, puts) in zip(steps[3:], steps[4:], strict=False)  # once all differences are there
    }
    assert found == {(True, *computed), (False, *reused)}


def test_other_devices_are_refused():
    with pytest.raises(ValueError, match="residual_device must be one of None, cpu, got 'cuda'"):
        AdaCacheConfig({1.0: 1}, residual_device="cuda")
