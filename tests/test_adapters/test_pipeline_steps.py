"""A diffusers pipeline with a cache: each call sets the number of steps, and `on_step` sees every call of the model."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, apply_cache
from opensora_adacache.caching.policies.magcache import MagCacheConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

RATE_2 = AdaCacheConfig({1e9: 2, 1e10: 1})


def generate(pipeline, name, steps, **changes):
    arguments = {**call_arguments(name), "generator": torch.Generator().manual_seed(0), **changes}
    return pipeline("a red circle", num_inference_steps=steps, **arguments).frames


@pytest.mark.parametrize(("name", "branches"), [("latte", 1), ("cogvideox", 1), ("wan", 2)])
def test_each_call_has_its_own_number_of_steps(name, branches):
    pipeline = make_pipeline(name)
    expected = {}
    for steps in (4, 7):
        with apply_cache(pipeline.transformer, RATE_2, steps):
            expected[steps] = generate(pipeline, name, steps)
    session = apply_cache(pipeline, RATE_2)
    for steps in (4, 7, 4, 4):
        assert torch.equal(generate(pipeline, name, steps), expected[steps])
        assert [len(branch.trace) for branch in session.branches.values()] == [steps] * branches
    assert computed_steps(session.trace) == [1, 2, 3, 4]
    session.detach()


def test_a_call_after_an_interrupted_one():
    pipeline = make_pipeline("wan")
    with apply_cache(pipeline.transformer, RATE_2, 5):
        expected = generate(pipeline, "wan", 5)

    def fail(pipe, step, timestep, tensors):
        if step == 2:
            raise RuntimeError("from the callback")
        return {}

    with apply_cache(pipeline, RATE_2) as session:
        with pytest.raises(RuntimeError, match="from the callback"):
            generate(pipeline, "wan", 8, callback_on_step_end=fail)
        assert torch.equal(generate(pipeline, "wan", 5), expected) and len(session.trace) == 5


def test_settings_are_checked_against_each_call():
    pipeline = make_pipeline("cogvideox")
    with apply_cache(pipeline, MagCacheConfig(ratios=(1.0,) * 5)) as session:
        assert generate(pipeline, "cogvideox", 6).isfinite().all()
        with pytest.raises(ValueError, match="ratios belong to 6 steps, but the run has 4"):
            generate(pipeline, "cogvideox", 4)
        session.reset()
    with apply_cache(pipeline, ForecastCacheConfig(speedup=1.5)), pytest.warns(UserWarning, match="has no profile"):
        generate(pipeline, "cogvideox", 9)


def test_what_is_no_pipeline_for_a_cache():
    pipeline = make_pipeline("wan")
    with pytest.raises(ValueError, match="needs num_sampling_steps for a model"):
        apply_cache(pipeline.transformer, RATE_2)
    pipeline.register_modules(transformer=None)
    with pytest.raises(ValueError, match="WanPipeline has no transformer"):
        apply_cache(pipeline, RATE_2)


def test_a_modular_pipeline_before_its_parts_are_loaded():
    from diffusers.modular_pipelines import WanBlocks

    with pytest.raises(ValueError, match=r"the transformer of this WanModular.* is not loaded: call its load_comp"):
        apply_cache(WanBlocks().init_pipeline(), RATE_2)


def test_every_call_of_the_model_is_shown():
    pipeline, seen = make_pipeline("wan"), []
    with apply_cache(pipeline, RATE_2) as session:
        session.on_step = lambda name, step: seen.append((name, step.index, step.computed, step.latents.shape[0]))
        generate(pipeline, "wan", 5)
    assert [entry[:2] for entry in seen] == [(name, i) for i in range(5) for name in ("cond", "uncond")]
    assert [computed for _, _, (computed,), _ in seen[::2]] == [record.computed for record in session.trace]
    assert {rows for *_, rows in seen} == {1}


@pytest.mark.parametrize(("name", "part"), [("ltx-video", "transformer"), ("wan-2.2", "transformer_2")])
def test_a_transformer_that_is_replaced(name, part):
    """It would run without the cache, and nothing would say so."""
    pipeline, other = make_pipeline(name), make_pipeline(name).transformer
    cached = getattr(pipeline, part)
    signature = inspect.signature(pipeline.scheduler.set_timesteps)
    with apply_cache(pipeline, RATE_2) as session:
        assert inspect.signature(pipeline.scheduler.set_timesteps) == signature
        expected = generate(pipeline, name, 8)
        setattr(pipeline, part, other)
        with pytest.raises(ValueError, match=f"the {part} of this {type(pipeline).__name__} was replaced after apply_"):
            generate(pipeline, name, 8)
        setattr(pipeline, part, cached)
        assert torch.equal(generate(pipeline, name, 8), expected)
        twin = copy.deepcopy(pipeline.scheduler)
        twin.set_timesteps(3, mu=1.0)
        assert (len(twin.timesteps), len(pipeline.scheduler.timesteps)) == (3, 8)
        setattr(pipeline, part, other)
        session.detach()
    assert generate(pipeline, name, 8).isfinite().all()
    with apply_cache(pipeline, RATE_2):
        assert generate(pipeline, name, 8).isfinite().all()


def test_two_pipelines_with_one_scheduler():
    """Each looks after its own transformer, for as long as it has a cache."""
    first, second = make_pipeline("latte"), make_pipeline("latte")
    second.scheduler = first.scheduler
    sessions = [apply_cache(pipeline, RATE_2) for pipeline in (first, second)]
    expected = generate(second, "latte", 5)
    sessions[0].detach()
    first.transformer = make_pipeline("latte").transformer
    assert torch.equal(generate(second, "latte", 5), expected) and len(sessions[1].trace) == 5
    assert generate(first, "latte", 5).isfinite().all()
    sessions[1].detach()


def test_a_transformer_within_another_module():
    """As a user's own wrapper, or one that distributes a model, holds it: the cache still sees its calls."""
    pipeline = make_pipeline("latte")

    class Holder(torch.nn.Module):
        device = torch.device("cpu")

        def __init__(self, inner):
            super().__init__()
            self.inner, self.config, self.dtype = inner, inner.config, inner.dtype

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    with apply_cache(pipeline, RATE_2) as session:
        expected = generate(pipeline, "latte", 5)
        pipeline.transformer = Holder(pipeline.transformer)
        assert torch.equal(generate(pipeline, "latte", 5), expected) and len(session.trace) == 5
