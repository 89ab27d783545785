"""AdaCache in whole diffusers pipelines at tiny size: text encoder, scheduler, VAE and transformer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.config.calibrated import write_calibrated
from opensora_adacache.presets.calibrated_file import CalibratedFile, CalibratedSetting
from opensora_adacache.presets.identity import identity_of_pipeline
from opensora_adacache.presets.user_folder import calibration_path
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

ROOT = Path(__file__).parents[2]
STEPS = 6
RATE_2 = AdaCacheConfig({1e9: 2, 1e10: 1})
COMPUTED = [1, 2, 4, 5, 6]


def steps_of_experts(pipeline, num_inference_steps: int) -> tuple[int, int]:
    """Return the number of steps that each of the two transformers of a Wan 2.2 pipeline takes."""
    pipeline.scheduler.set_timesteps(num_inference_steps)
    boundary = pipeline.config.boundary_ratio * pipeline.scheduler.config.num_train_timesteps
    first = int((pipeline.scheduler.timesteps >= boundary).sum())
    return first, num_inference_steps - first


def generate(pipeline, name, **changes):
    arguments = {**call_arguments(name), "num_inference_steps": STEPS}
    arguments = {**arguments, "generator": torch.Generator().manual_seed(0), **changes}
    return pipeline("a red circle", **arguments).frames


@pytest.mark.parametrize(("name", "branches"), [("latte", 1), ("cogvideox", 1), ("wan", 2)])
def test_a_pipeline_with_and_without_a_cache(name, branches):
    pipeline = make_pipeline(name)
    plain = generate(pipeline, name)
    with apply_cache(pipeline.transformer, AdaCacheConfig({1.0: 1}), STEPS):
        assert torch.equal(generate(pipeline, name), plain)
    session = apply_cache(pipeline.transformer, RATE_2, num_sampling_steps=STEPS)
    first = generate(pipeline, name)
    assert [computed_steps(branch.trace) for branch in session.branches.values()] == [COMPUTED] * branches
    assert torch.equal(generate(pipeline, name), first) and not torch.equal(first, plain)

    def fail(pipe, step, timestep, tensors):
        if step == 2:
            raise RuntimeError("from the callback")
        return {}

    with pytest.raises(RuntimeError, match="from the callback"):
        generate(pipeline, name, callback_on_step_end=fail)
    # Wan's two calls both notice it; the others make a single call
    with pytest.warns(UserWarning, match="begins a new run after 3 of 6 steps"):
        assert torch.equal(generate(pipeline, name), first)
    # a finished video is not discarded because of a different number of steps
    with pytest.warns(UserWarning, match="only 4 of 6 steps ran when the pipeline ended"):
        assert generate(pipeline, name, num_inference_steps=4).isfinite().all()
    assert len(session.trace) == 4
    with pytest.warns(UserWarning, match="goes on to timestep .* after 6 steps"):
        assert generate(pipeline, name, num_inference_steps=12).isfinite().all()
    assert torch.equal(generate(pipeline, name), first)
    session.detach()
    assert torch.equal(generate(pipeline, name), plain)


def test_two_experts_of_wan_2_2():
    """Each transformer takes some of the steps, and each has a session with its own number of steps."""
    pipeline = make_pipeline("wan")
    pipeline.register_modules(transformer_2=make_pipeline("wan").transformer)
    pipeline.register_to_config(boundary_ratio=0.8)
    steps = steps_of_experts(pipeline, STEPS)
    assert sum(steps) == STEPS and min(steps) > 0
    plain = generate(pipeline, "wan")
    sessions = [
        apply_cache(pipeline.transformer, RATE_2, steps[0]),
        apply_cache(pipeline.transformer_2, RATE_2, steps[1]),
    ]
    generate(pipeline, "wan")
    cached = generate(pipeline, "wan")
    assert [len(session.trace) for session in sessions] == list(steps)
    for session in sessions:
        session.detach()
    assert torch.equal(generate(pipeline, "wan"), plain) and cached.isfinite().all()


def test_heun_takes_two_calls_for_a_step():
    """The `timesteps` of a second-order scheduler are the model's calls, which is what a session counts."""
    from diffusers import FlowMatchHeunDiscreteScheduler

    pipeline = make_pipeline("wan")
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
    pipeline.scheduler.set_timesteps(4)
    calls = len(pipeline.scheduler.timesteps)
    assert calls == 2 * 4 - 1
    with apply_cache(pipeline.transformer, RATE_2, calls) as session:
        video = generate(pipeline, "wan", num_inference_steps=4)
    assert computed_steps(session.trace) == [1, 2, 4, 6, 7] and video.isfinite().all()
    with (
        apply_cache(pipeline.transformer, RATE_2, 4),
        pytest.warns(UserWarning, match="pass apply_cache the sampler's num_sampling_steps"),
    ):
        assert generate(pipeline, "wan", num_inference_steps=4).isfinite().all()


def test_cache_dit_is_refused_in_either_order():
    cache_dit = pytest.importorskip("cache_dit")
    pipeline = make_pipeline("cogvideox")
    pipeline.__class__ = type("CogVideoXPipeline", (type(pipeline),), {})  # cache-dit patches the class of the pipeline
    cache_dit.enable_cache(pipeline, cache_config=cache_dit.DBCacheConfig(Fn_compute_blocks=1))
    with pytest.raises(ValueError, match="cache of cache-dit enabled: call cache_dit.disable_cache first"):
        apply_cache(pipeline.transformer, RATE_2, STEPS)
    cache_dit.disable_cache(pipeline)
    with apply_cache(pipeline.transformer, RATE_2, STEPS):
        cache_dit.enable_cache(pipeline, cache_config=cache_dit.DBCacheConfig(Fn_compute_blocks=1))
        with pytest.raises(ValueError, match="cache of cache-dit enabled"):
            generate(pipeline, "cogvideox")


def test_a_callback_that_interrupts_resets_the_session():
    pipeline = make_pipeline("wan")

    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = step == 2
        if pipe._interrupt:
            session.reset()
        return {}

    with apply_cache(pipeline.transformer, RATE_2, STEPS) as session:
        generate(pipeline, "wan", callback_on_step_end=stop)
        generate(pipeline, "wan")
        assert computed_steps(session.trace) == COMPUTED


def test_the_snippet_of_the_readme():
    """Its three lines run unchanged on a tiny pipeline with a calibration, for the steps that the pipeline takes."""
    section = (ROOT / "README.md").read_text().split("### Your pipeline", 1)[1]
    code = re.search(r"```python\n(.*?)```", section, re.S).group(1)
    assert len(code.split("\n")) - code.count("\n\n") - 1 == 3 and "steps" not in code
    pipeline = make_pipeline("cogvideox")
    identity = identity_of_pipeline("", type(pipeline.transformer).__name__, pipeline.transformer.config)
    profile = {"type": "ForecastCache", "sensitivity": [2.0, 1.0], "growth": [3.0, 1.0]}
    setting = CalibratedSetting(profile, "2026-11-27", command="calibrate")
    path = calibration_path("cogvideox", identity.digest, 50)
    write_calibrated(path, CalibratedFile("cogvideox", 50, {"forecast": setting}, digest=identity.digest))

    def call(self, prompt):
        return type(pipeline).__base__.__call__(self, prompt, **call_arguments("cogvideox"))

    pipeline.__class__ = type("TinyPipeline", (type(pipeline),), {"__call__": call})
    calls = []
    pipeline.transformer.transformer_blocks[0].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    exec(compile(code, "README.md", "exec"), {"pipe": pipeline})
    assert len(calls) == 50 / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["latte", "cogvideox", "wan", "wan-2.2", "ltx-video"])
def test_a_pipeline_without_unconditional_rows(name):
    """Windows of two steps from step 2 on: rows are left out at steps 3 and 5 of 6; a pipeline without guidance is
    refused before its first step."""
    pipeline = make_pipeline(name)
    plain = generate(pipeline, name)
    config = StaticConfig(interval=1, guidance_reuse=GuidanceReuse(interval=2, start=0))
    with apply_cache(pipeline, config) as session:
        reused = generate(pipeline, name)
        assert reused.shape == plain.shape and reused.isfinite().all() and not torch.equal(reused, plain)
        *_, branch = session.branches.values()
        left_out = [record.step for record in branch.trace if record.rebuilt]
        assert left_out == [3, 5] if name != "wan-2.2" else left_out
        assert torch.equal(generate(pipeline, name), reused)
        with pytest.raises(ValueError, match="switch guidance on, or leave guidance_reuse out"):
            generate(pipeline, name, guidance_scale=1.0)
