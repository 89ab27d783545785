"""Compiled blocks with and without a cache: the same schedules, no graph breaks, no recompilation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.benchmark.random_video import TINY, RandomVideo, VideoSize, random_model
from opensora_adacache.caching.registry import POLICIES
from opensora_adacache.config import load_config
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.loading import load_models

QUICK = ("AdaCache", "ForecastCache", "PAB")
"""Policies that the fast tests compile; the others are marked slow."""
CONFIGS = Path(__file__).parents[2] / "configs/scenes"
STEPS = 12
SIZE = VideoSize(64, 96, 17, (3, 8, 12))
CACHE = AdaCacheConfig({1e9: 3})
# The four videos of a batch take different rates.
UNLIKE = AdaCacheConfig({0.09: 4, 0.1: 3, 0.109: 2, 1e9: 1}, decision="sample")
# Graphs of a run without a cache: a spatial and a temporal block.
PLAIN = 2
INDUCTOR = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of modules that inductor imports

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return random_model(TINY, torch.device("cpu"), torch.float32)


@pytest.fixture
def deep_model(golden_model):
    """As deep as the published model, as wide as that of the reference vectors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return random_model(replace(golden_model.config, depth=28), torch.device("cpu"), torch.float32)


class Compiled:
    """Compiles a model's blocks and counts the graphs after each call of the model."""

    def __init__(self, model, backend="eager"):
        self.counter = CompileCounterWithBackend(backend)
        self.graphs = []
        counters.clear()
        model.compile_blocks(self.counter)
        model.register_forward_hook(lambda *_: self.graphs.append(self.counter.frame_count))

    def check(self, num_calls):
        """Assert that there were so many calls and that the first two compiled all that the others ran."""
        assert len(self.graphs) == num_calls and PLAIN <= self.graphs[1] == self.graphs[-1]
        assert not counters["graph_break"]


def run_cached(model, sample, config, num_videos=1):
    """Return the latents of a run and which steps computed how many rows, for each video."""
    with apply_cache(model, config, STEPS) as session:
        latents = sample(model, num_videos)
    return latents, [[(record.computed, record.rows_computed) for record in trace] for trace in session.traces]


@torch.no_grad()
@pytest.mark.parametrize("depth", ["golden", pytest.param(28, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in POLICIES]
)
def test_every_policy_keeps_its_schedule_and_compiles_in_two_steps(request, policy_settings, sample, name, depth):
    model = request.getfixturevalue("golden_model" if depth == "golden" else "deep_model")
    config = policy_settings[name][1]
    expected, schedule = run_cached(model, sample, config)
    compiled = Compiled(model)
    latents, compiled_schedule = run_cached(model, sample, config)
    assert compiled_schedule == schedule
    assert torch.equal(latents, expected)
    compiled.check(num_calls=STEPS)


@torch.no_grad()
@pytest.mark.parametrize(
    ("residual", "granularity"),
    [
        ("t-attn", "block"),
        pytest.param("t-attn", "stack", marks=pytest.mark.slow),
        pytest.param("ca-mlp", "block", marks=pytest.mark.slow),
        pytest.param("ca-mlp", "stack", marks=pytest.mark.slow),
    ],
)
def test_both_granularities_and_probes_compile_in_two_steps(golden_model, sample, residual, granularity):
    config = replace(CACHE, granularity=granularity, cache_res=residual)
    expected, schedule = run_cached(golden_model, sample, config)
    compiled = Compiled(golden_model)
    latents, compiled_schedule = run_cached(golden_model, sample, config)
    assert compiled_schedule == schedule and torch.equal(latents, expected)
    compiled.check(num_calls=STEPS)


@torch.no_grad()
@pytest.mark.parametrize("granularity", ["stack", pytest.param("block", marks=pytest.mark.slow)])
def test_videos_that_decide_for_themselves_share_the_graphs(golden_model, sample, granularity):
    """The rows that compute are 2, 4, 6 or 8: one graph takes them all."""
    config = replace(UNLIKE, granularity=granularity)
    expected, schedules = run_cached(golden_model, sample, config, num_videos=4)
    assert {rows for _, rows in schedules[0]} == {2, 4, 6, 8}
    compiled = Compiled(golden_model)
    latents, compiled_schedules = run_cached(golden_model, sample, config, num_videos=4)
    assert compiled_schedules == schedules
    assert torch.equal(latents, expected)
    compiled.check(num_calls=STEPS)


@torch.no_grad()
def test_graphs_are_shared_by_blocks_rows_lengths_of_text_and_caches(model):
    compiled = Compiled(model)
    RandomVideo(model, SIZE).sample(2)
    assert compiled.graphs[-1] == PLAIN
    RandomVideo(model, SIZE).sample(STEPS, CACHE)
    assert compiled.graphs[-1] == PLAIN + 2  # the probed block in two pieces
    for num_tokens in (3, 20, 31):
        RandomVideo(model, SIZE, num_tokens).sample(STEPS, CACHE)
    assert compiled.graphs[-1] == PLAIN + 2


@torch.no_grad()
def test_a_cache_that_was_detached_leaves_whole_blocks(model):
    video = RandomVideo(model, SIZE)
    expected, _, _ = video.sample(3)
    with apply_cache(model, replace(CACHE, granularity="block"), num_sampling_steps=3):
        compiled = Compiled(model)
    assert torch.equal(video.sample(3)[0], expected)
    assert compiled.graphs[-1] == PLAIN


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sample_forecast", "sample_adacache_moreg"])
def test_the_bundled_model(name, tmp_path):
    overrides = {"scheduler.num_sampling_steps": STEPS, "save_dir": str(tmp_path)}
    config = load_config(CONFIGS / f"{name}.py", overrides)
    jobs = plan_jobs(config)[:1]
    models = load_models(config, list(jobs[0].texts))

    def denoise():
        latents, traces = models.pipeline(config).denoise(jobs, models.features)
        return latents, [record.computed for record in traces[0]]

    expected, schedule = denoise()
    compiled = Compiled(models.transformer)
    latents, compiled_schedule = denoise()
    assert compiled_schedule == schedule and not all(schedule)
    assert torch.equal(latents, expected)
    compiled.check(num_calls=STEPS)


@INDUCTOR
@pytest.mark.slow
@torch.no_grad()
def test_the_default_compiler_rounds_only(golden_model, sample):
    expected, schedules = run_cached(golden_model, sample, UNLIKE, num_videos=4)
    compiled = Compiled(golden_model, "inductor")
    latents, compiled_schedules = run_cached(golden_model, sample, UNLIKE, num_videos=4)
    assert compiled_schedules == schedules
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)
    compiled.check(num_calls=STEPS)
