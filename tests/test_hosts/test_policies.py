"""Every policy on the real STDiT3: its cheapest setting is the plain model, and skipped steps run no block."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.peers.dpcache import DPCacheConfig
from opensora_adacache.caching.peers.easycache import EasyCacheConfig
from opensora_adacache.caching.peers.fbcache import FBCacheConfig
from opensora_adacache.caching.peers.lemica import LeMiCaConfig
from opensora_adacache.caching.peers.magcache import MagCacheConfig
from opensora_adacache.caching.peers.planned import PlannedConfig, StaticConfig
from opensora_adacache.caching.peers.seacache import SeaCacheConfig
from opensora_adacache.caching.peers.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.peers.teacache import TeaCacheConfig
from opensora_adacache.caching.policies import POLICIES, config_class
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.schedulers import RFLOW

STEPS = 12
RATIOS = (1.0,) * (STEPS - 1)
# name -> (setting that computes every step, setting that skips some)
SETTINGS = {
    "AdaCache": (AdaCacheConfig({1.0: 1}), AdaCacheConfig({10.0: 3, 11.0: 1})),
    "DPCache": (DPCacheConfig(steps=range(1, STEPS + 1)), DPCacheConfig(steps=(1, 2, 3, 6, 12), order=1)),
    "EasyCache": (EasyCacheConfig(threshold=1e-9), EasyCacheConfig(threshold=0.2)),
    "FBCache": (FBCacheConfig(threshold=1e-9), FBCacheConfig(threshold=0.12)),
    "LeMiCa": (LeMiCaConfig(steps=range(1, STEPS + 1)), LeMiCaConfig(steps=(1, 3, 7, 12))),
    "MagCache": (MagCacheConfig(ratios=RATIOS, retention=1.0), MagCacheConfig(ratios=RATIOS, max_skips=2)),
    "Planned": (PlannedConfig(steps=range(1, STEPS + 1)), PlannedConfig(steps=(1, 2, 6, 12))),
    "SeaCache": (SeaCacheConfig(threshold=1e-9), SeaCacheConfig(threshold=0.1)),
    "Static": (StaticConfig(interval=1), StaticConfig(interval=3)),
    "TaylorSeer": (TaylorSeerConfig(interval=1), TaylorSeerConfig(interval=3, order=2)),
    "TeaCache": (TeaCacheConfig(threshold=1e-9), TeaCacheConfig(threshold=0.05, coefficients=(1.0, 0.0))),
}


class Text:
    """Random text features."""

    def __init__(self, model):
        self.model = model

    def encode(self, prompts):
        y = torch.randn(len(prompts), 1, 12, 32, generator=torch.Generator().manual_seed(1))
        return {"y": y, "mask": torch.ones(len(prompts), 12, dtype=torch.long)}

    def null(self, n):
        return self.model.y_embedder.y_embedding[None, None].expand(n, 1, -1, -1)


def sample(model):
    z = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    size = {
        key: torch.full((1,), value) for key, value in zip(("height", "width", "fps"), (64.0, 64.0, 8.0), strict=True)
    }
    sampler = RFLOW(STEPS, cfg_scale=4.0, use_timestep_transform=False)
    return sampler.sample(model, Text(model), z, ["prompt"], "cpu", size, progress=False)


def test_every_policy_is_tried():
    assert SETTINGS.keys() == POLICIES.keys()
    assert all(type(setting) is config_class(name) for name, pair in SETTINGS.items() for setting in pair)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_cheapest_setting_is_bit_identical_to_no_cache(golden_model, name):
    plain = sample(golden_model)
    with apply_cache(golden_model, SETTINGS[name][0], STEPS) as session:
        cached = sample(golden_model)
    assert torch.equal(plain, cached) and len(computed_steps(session.trace)) == STEPS


@pytest.mark.parametrize("name", SETTINGS)
def test_skipped_steps_run_no_block(golden_model, name):
    calls = []
    golden_model.temporal_blocks[0].mlp.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    with apply_cache(golden_model, SETTINGS[name][1], STEPS) as session:
        first = sample(golden_model)
        second = sample(golden_model)
    steps = computed_steps(session.trace)
    assert torch.equal(first, second) and len(calls) == 2 * len(steps)
    assert 2 <= len(steps) < STEPS and 1 in steps
