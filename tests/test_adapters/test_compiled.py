"""Compiled blocks with and without a cache: the same schedules, no graph breaks, no recompilation."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.benchmark.random_video import TINY, RandomVideo, VideoSize, random_model
from opensora_adacache.caching.policies.delta_dit import DeltaDiTConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.policies.tgate import TGATEConfig

STEPS = 10
SIZE = VideoSize(64, 96, 17, (3, 8, 12))
CACHES = {
    "none": None,
    "adacache": AdaCacheConfig({1e9: 3}),
    "adacache, block": AdaCacheConfig({1e9: 3}, granularity="block"),
    "adacache, ca-mlp": AdaCacheConfig({1e9: 3}, cache_res="ca-mlp"),
    "delta-dit": DeltaDiTConfig(interval=3, gate_step=5, early=(2, 3), late=(0, 0)),
    "fbcache": FBCacheConfig(threshold=0.12),
    "pab": PABConfig(mlp_layers=(0, 2)),
    "taylorseer": TaylorSeerConfig(interval=3, order=2),
    "teacache": TeaCacheConfig(threshold=0.05, coefficients=(1.0, 0.0)),
    "tgate": TGATEConfig(gate_step=6, interval=3),
}


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return random_model(TINY, torch.device("cpu"), torch.float32)


@torch.no_grad()
@pytest.mark.parametrize("name", CACHES)
def test_schedules_stay_and_two_steps_compile_everything(model, fresh_dynamo, name):
    video = RandomVideo(model, SIZE)
    expected, schedule, _ = video.sample(STEPS, CACHES[name])
    counter = CompileCounterWithBackend("eager")
    model.compile_blocks(counter)
    frames_at_step = []
    forward = model.forward

    def counting(*args, **kwargs):
        out = forward(*args, **kwargs)
        frames_at_step.append(counter.frame_count)
        return out

    model.forward = counting
    latents, compiled_schedule, _ = video.sample(STEPS, CACHES[name])
    assert compiled_schedule == schedule
    assert torch.equal(latents, expected)
    assert 2 <= frames_at_step[1] == frames_at_step[-1]


@torch.no_grad()
def test_graphs_are_shared_by_blocks_lengths_of_text_and_caches(model, fresh_dynamo):
    counter = CompileCounterWithBackend("eager")
    model.compile_blocks(counter)
    RandomVideo(model, SIZE).sample(2)
    assert counter.frame_count == 2  # spatial and temporal
    with_cache = AdaCacheConfig({1e9: 3})
    RandomVideo(model, SIZE).sample(STEPS, with_cache)
    assert counter.frame_count == 4  # the probed block is compiled in two pieces
    for num_tokens in (3, 20, 31):
        RandomVideo(model, SIZE, num_tokens).sample(STEPS, with_cache)
    assert counter.frame_count == 4


@torch.no_grad()
def test_a_cache_that_was_detached_leaves_whole_blocks(model, fresh_dynamo):
    video = RandomVideo(model, SIZE)
    expected, _, _ = video.sample(3)
    counter = CompileCounterWithBackend("eager")
    with apply_cache(model, AdaCacheConfig({1e9: 3}, granularity="block"), num_sampling_steps=3):
        model.compile_blocks(counter)
    assert torch.equal(video.sample(3)[0], expected)
    assert counter.frame_count == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of modules that inductor imports
@torch.no_grad()
def test_the_default_compiler_rounds_only(model, fresh_dynamo):
    video, config = RandomVideo(model, SIZE), AdaCacheConfig({1e9: 3})
    expected, schedule, _ = video.sample(STEPS, config)
    model.compile_blocks()
    latents, compiled_schedule, _ = video.sample(STEPS, config)
    assert compiled_schedule == schedule
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)
