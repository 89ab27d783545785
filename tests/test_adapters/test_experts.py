"""A pipeline whose steps are shared by two transformers, as of Wan 2.2 A14B, with one session for both."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.adapters.diffusers.experts_session import ExpertsSession
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.config.calibrated import write_calibrated
from opensora_adacache.errors.family import AdaCacheWarning
from opensora_adacache.presets.calibrated_file import CalibratedFile, CalibratedSetting
from opensora_adacache.presets.identity import identity_of_pipeline
from opensora_adacache.presets.user_folder import calibration_path
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:a run of . steps is short")
FAMILY = "wan-2.2"
ONES = AdaCacheConfig({1.0: 1})
RATE_2 = AdaCacheConfig({1e9: 2, 1e10: 1})
# With a shift of 3, the timesteps from 875 on are 3 of 10 and 2 of 7. Each transformer computes its first two and last
# two steps, and every second one between: 1 2 3 of 3, and 1 2 4 6 7 of 7; 1 2 of 2, and 1 2 4 5 of 5.
SCHEDULES = {10: (3, [1, 2, 3, 4, 5, 7, 9, 10]), 7: (2, [1, 2, 3, 4, 6, 7])}


@pytest.fixture(scope="module")
def made():
    return make_pipeline(FAMILY)


@pytest.fixture
def pipeline(made):
    copied = copy.deepcopy(made)
    copied.set_progress_bar_config(disable=True)
    return copied


def generate(pipeline, steps=10, prompt="a red circle", **changes):
    arguments = {**call_arguments(FAMILY), "output_type": "latent", "generator": torch.Generator().manual_seed(0)}
    return pipeline(prompt, num_inference_steps=steps, **{**arguments, **changes}).frames


def schedules(session):
    return {name: computed_steps(branch.trace) for name, branch in session.branches.items()}


def both(steps):
    return {"cond": steps, "uncond": steps}


def attributes(pipeline):
    modules = [module for model in (pipeline.transformer, pipeline.transformer_2) for module in model.modules()]
    return [dict(module.__dict__) for module in modules]


def test_one_session_for_both(pipeline):
    plain = generate(pipeline)
    before = attributes(pipeline)  # a pipeline leaves a registry of hooks by itself
    with apply_cache(pipeline, ONES):
        assert torch.equal(generate(pipeline), plain)
    session = apply_cache(pipeline, RATE_2)
    assert isinstance(session, ExpertsSession) and session.trace == session.runs == []
    with pytest.raises(ValueError, match="has a cache attached already"):
        apply_cache(pipeline, RATE_2)
    seen, held, blocks = [], [], []

    def on_step(name, step):
        seen.append((name, step.index, step.computed[0]))
        held.append(session.cache_bytes())

    session.on_step = on_step
    handles = [
        model.blocks[0].register_forward_pre_hook(lambda module, inputs, name=name: blocks.append(name))
        for name, model in (("first", pipeline.transformer), ("second", pipeline.transformer_2))
    ]
    cached = generate(pipeline)
    for handle in handles:
        handle.remove()
    first, computed = SCHEDULES[10]
    assert schedules(session) == both(computed) and not torch.equal(cached, plain)
    assert blocks == ["first"] * 2 * first + ["second"] * 2 * (len(computed) - first)
    assert [record.step for record in session.trace] == list(range(1, 11))
    assert session.traces == [session.trace] and session.runs == [session.traces]
    assert seen == [(name, step - 1, step in computed) for step in range(1, 11) for name in ("cond", "uncond")]
    assert torch.equal(generate(pipeline), cached) and schedules(session) == both(computed)
    parts = [len(part.trace) for part in session.sessions.values()]
    assert parts == [first, 10 - first]
    num_bytes = [part.peak_cache_bytes for part in session.sessions.values()]
    assert num_bytes[0] == num_bytes[1] == session.peak_cache_bytes == max(held) > 0
    assert held[2 * first - 1] == held[-1] == 0  # each transformer's are freed with its last step
    trace = session.trace
    session.detach()
    assert session.cache_bytes() == 0 and session.trace == trace
    assert attributes(pipeline) == before and torch.equal(generate(pipeline), plain)


def test_another_number_of_steps_per_call(pipeline):
    alone = {}
    for steps in SCHEDULES:
        with apply_cache(pipeline, RATE_2):
            alone[steps] = generate(pipeline, steps)
    with apply_cache(pipeline, RATE_2) as session:
        for steps in (7, 10, 10, 7):
            assert torch.equal(generate(pipeline, steps), alone[steps])
            assert schedules(session) == both(SCHEDULES[steps][1])
    with pytest.raises(ValueError, match="two transformers that share the steps.*leave num_sampling_steps out"):
        apply_cache(pipeline, RATE_2, 10)


@pytest.mark.parametrize(
    ("boundary", "index"),
    [(1.1, 1), pytest.param(0.0, 0, marks=pytest.mark.slow), pytest.param(None, 0, marks=pytest.mark.slow)],
)
def test_one_of_them_takes_no_step(pipeline, boundary, index):
    """A call after one in which both took some: nothing of the other's earlier run is shown, or kept."""
    session = apply_cache(pipeline, RATE_2)
    generate(pipeline)
    pipeline.register_to_config(boundary_ratio=boundary)
    generate(pipeline)
    assert schedules(session)["cond"] == [1, 2, 4, 6, 8, 9, 10] and session.cache_bytes() == 0
    traces = [part.trace for part in session.sessions.values()]
    assert len(traces[index]) == 10 and traces[1 - index] == []
    pipeline.register_to_config(boundary_ratio=0.875)
    generate(pipeline)
    assert schedules(session) == both(SCHEDULES[10][1])


def test_guidance(pipeline, monkeypatch):
    with apply_cache(pipeline, RATE_2):
        named = generate(pipeline)
    computed = SCHEDULES[10][1]
    with apply_cache(pipeline, RATE_2) as session:
        generate(pipeline, guidance_scale=1.0)
        assert schedules(session) == {"cond": computed}
    monkeypatch.setattr(type(pipeline.transformer), "cache_context", lambda self, name, **more: nullcontext())
    with apply_cache(pipeline, RATE_2) as session:
        assert torch.equal(generate(pipeline), named)
        assert schedules(session) == {"": computed, "call 2": computed}


@pytest.mark.slow
def test_each_video_decides(pipeline):
    prompts = ["a red circle", "a blue square"]

    def noise():
        return [torch.Generator().manual_seed(seed) for seed in (0, 1)]

    with apply_cache(pipeline, AdaCacheConfig({1e9: 2, 1e10: 1}, decision="sample")) as session:
        single = [generate(pipeline, 7, prompt, generator=g) for prompt, g in zip(prompts, noise(), strict=True)]
        batch = generate(pipeline, 7, prompts, generator=noise())
        torch.testing.assert_close(batch, torch.cat(single), atol=1e-4, rtol=0)
        assert [computed_steps(trace) for trace in session.traces] == [SCHEDULES[7][1]] * 2
        with pytest.raises(ValueError, match="this run has 2 traces"):
            session.trace  # noqa: B018


@pytest.mark.parametrize("steps_done", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_an_exception_leaves_the_next_call_clean(pipeline, steps_done):
    """In the first transformer's part and in the second's, from a callback."""

    def fail(pipe, step, timestep, tensors):
        if step == steps_done:
            raise RuntimeError("from the callback")
        return {}

    with apply_cache(pipeline, RATE_2) as session:
        expected = generate(pipeline)
        with pytest.raises(RuntimeError, match="from the callback"):
            generate(pipeline, callback_on_step_end=fail)
        assert torch.equal(generate(pipeline), expected) and schedules(session) == both(SCHEDULES[10][1])


@pytest.mark.slow
def test_a_copy_is_plain(pipeline):
    plain = generate(pipeline)
    session = apply_cache(pipeline, RATE_2)
    cached, twin = generate(pipeline), copy.deepcopy(pipeline)
    twin.set_progress_bar_config(disable=True)
    trace = session.trace
    assert torch.equal(generate(twin), plain) and session.trace == trace
    with apply_cache(twin, RATE_2):
        assert torch.equal(generate(twin), cached)
    assert torch.equal(generate(pipeline), cached)


def test_settings_that_do_not_fit_the_second_one_are_refused_before_the_first_runs(pipeline):
    calls, config = [], AdaCacheConfig({1e9: 2, 1e10: 1}, moreg=MoRegConfig(steps=(2, 5)))
    pipeline.transformer.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    pipeline.register_to_config(boundary_ratio=0.6)
    with apply_cache(pipeline, config):
        for _ in range(2):
            with pytest.raises(
                ValueError, match=r"^transformer_2 takes 3 of the 9 steps: MoReg steps must lie in 1\.\.3"
            ):
                generate(pipeline, 9)
        assert not calls
        pipeline.register_to_config(boundary_ratio=1.1)  # now it takes all of them
        generate(pipeline, 9)
    assert not calls


def test_a_warning_that_is_an_error_leaves_no_cache_behind(pipeline):
    def fail(pipe, step, timestep, tensors):
        raise KeyboardInterrupt

    generate(pipeline, 7)
    before = attributes(pipeline)
    with pytest.raises(AdaCacheWarning, match="only 1 of 2 steps ran before the cache was detached"):  # noqa: SIM117
        with apply_cache(pipeline, RATE_2) as session:
            with pytest.raises(KeyboardInterrupt):
                generate(pipeline, 7, callback_on_step_end=fail)
    assert attributes(pipeline) == before and session.cache_bytes() == 0


def test_what_does_not_fit_leaves_nothing(pipeline):
    """The second transformer refuses, so the first is plain again."""
    before = attributes(pipeline)
    other = apply_cache(pipeline.transformer_2, RATE_2, 7)
    with pytest.raises(ValueError, match="has a cache attached already"):
        apply_cache(pipeline, RATE_2)
    other.detach()
    assert attributes(pipeline) == before


@pytest.mark.parametrize(
    ("left", "boundary"),
    [
        ("transformer_2", 1.1),
        pytest.param("transformer", 0.0, marks=pytest.mark.slow),
        pytest.param("transformer", None, marks=pytest.mark.slow),
    ],
)
def test_a_pipeline_with_one_of_the_two(pipeline, left, boundary):
    pipeline.register_modules(**{({"transformer", "transformer_2"} - {left}).pop(): None})
    pipeline.register_to_config(boundary_ratio=boundary)
    plain = generate(pipeline, 7)
    with apply_cache(pipeline, ONES):
        assert torch.equal(generate(pipeline, 7), plain)
    with apply_cache(pipeline, RATE_2) as session:
        generate(pipeline, 7)
        assert schedules(session) == both([1, 2, 4, 6, 7])


def test_by_speedup(pipeline):
    """The settings are those of the whole call's number of steps."""
    identity = identity_of_pipeline("", type(pipeline.transformer).__name__, pipeline.transformer.config)
    for steps, rate in ((10, 2), (11, 1)):
        section = {"type": "AdaCache", "codebook": {1e9: rate, 1e10: 1}}
        found = {"adacache-2x": CalibratedSetting(section, "2026-11-27", command="calibrate", speedup=2.0)}
        path = calibration_path("wan", identity.digest, steps)
        write_calibrated(path, CalibratedFile("wan", steps, found, digest=identity.digest))
    with apply_cache(pipeline, speedup=2) as session:
        for steps, computed in ((10, SCHEDULES[10][1]), (11, list(range(1, 12))), (10, SCHEDULES[10][1])):
            generate(pipeline, steps)
            assert schedules(session) == both(computed)
        with pytest.raises(ValueError, match="no AdaCache settings .* with 7 steps; there are AdaCache at 2x with 10"):
            generate(pipeline, 7)
    with pytest.raises(ValueError, match="two transformers, for which no profile of ForecastCache is calibrated"):
        apply_cache(pipeline, speedup=2, policy="forecastcache")
    with apply_cache(pipeline, ForecastCacheConfig(speedup=1.25)), pytest.warns(UserWarning, match="has no profile"):
        generate(pipeline, 16)


def test_a_transformer_that_takes_all_steps_of_some_calls():
    """As that of MiniMax-H3 for calls with references, which was passed by without a word."""
    pipeline = make_pipeline("wan")
    pipeline.transformer_ref = make_pipeline("wan", layers=3).transformer
    models = pipeline.transformer, pipeline.transformer_ref

    def call(with_references):
        # as if the pipeline had chosen the transformer itself
        pipeline.transformer, pipeline.transformer_ref = reversed(models) if with_references else models
        return pipeline(
            "a red circle",
            **{**call_arguments("wan"), "output_type": "latent", "num_inference_steps": 6},
            generator=torch.Generator().manual_seed(0),
        ).frames

    plain = [call(with_references) for with_references in (False, True)]
    pipeline.transformer, pipeline.transformer_ref = models
    with apply_cache(pipeline, ONES):
        assert all(torch.equal(call(number == 1), plain[number]) for number in (0, 1, 0))
    pipeline.transformer, pipeline.transformer_ref = models
    seen = []
    with apply_cache(pipeline, RATE_2) as session:
        session.on_step = lambda name, step: seen.append(step.index)
        for with_references in (False, True, True, False):
            seen.clear()
            cached = call(with_references)
            assert schedules(session) == both([1, 2, 4, 5, 6]) and seen == [i for i in range(6) for _ in range(2)]
            assert not torch.equal(cached, plain[with_references])
