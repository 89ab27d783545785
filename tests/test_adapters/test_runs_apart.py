"""Where one run ends and the next begins: nothing of a run that was given up, refused or detached stays."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.errors.family import AdaCacheWarning
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

pytestmark = pytest.mark.filterwarnings(
    "ignore:a run of . steps is short",
    "ignore:In CPU autocast:UserWarning",  # raised inside Mochi
)
slow = pytest.mark.slow
EVERY_THIRD = StaticConfig(interval=3)
EACH_VIDEO = AdaCacheConfig({1e9: 2, 1e10: 1}, decision="sample")


def generate(pipeline, name, steps=5, prompt="a red circle", **changes):
    arguments = {**call_arguments(name), "output_type": "latent", "generator": torch.Generator().manual_seed(0)}
    return pipeline(prompt, num_inference_steps=steps, **{**arguments, **changes}).frames


def give_up(step_to_fail):
    """Return a callback that raises at the end of a step, counted from 0."""

    def fail(pipe, step, timestep, tensors):
        if step == step_to_fail:
            raise KeyboardInterrupt
        return {}

    return fail


@pytest.mark.parametrize("name", ["ltx-video", *(pytest.param(name, marks=slow) for name in ("latte", "mochi", "wan"))])
@pytest.mark.parametrize("done", [1, pytest.param(2, marks=slow)])
def test_a_call_after_one_that_was_given_up(name, done):
    """Of another video, whose first timestep may be that of the last step of the first call."""
    pipeline = make_pipeline(name)
    with apply_cache(pipeline, EVERY_THIRD) as session:  # nothing warns: a pipeline says that its next call has begun
        expected = generate(pipeline, name)
        other = torch.Generator().manual_seed(1)
        with pytest.raises(KeyboardInterrupt):
            generate(pipeline, name, generator=other, callback_on_step_end=give_up(done - 1))
        assert torch.equal(generate(pipeline, name), expected)
        assert [computed_steps(branch.trace) for branch in session.branches.values()] == [[1, 4, 5]] * len(
            session.branches
        )


def test_a_call_within_that_of_another_branch_is_refused():
    """As a second thread would make it; the call in progress, and its run, go on."""
    session, latents = BranchedSession(EVERY_THIRD, 5), torch.zeros(1, 4, 2, 2, 2)
    for t in (1000.0, 800.0):
        with session.model_call("cond", latents, torch.tensor([t])) as branch:
            with pytest.raises(RuntimeError, match="cannot run in two threads at once"):
                with session.model_call("uncond", latents, torch.tensor([1000.0])):
                    pytest.fail("it ran")
            branch._run.open.computed = [False]
    assert list(session.branches) == ["cond"] and session.branches["cond"].num_steps_done == 2


def test_a_call_that_goes_on_at_lower_timesteps():
    """The second call has as many steps as the first one, from where that was given up: only the pipeline knows."""
    import diffusers

    pipeline = make_pipeline("wan")
    pipeline = diffusers.WanVideoToVideoPipeline(
        pipeline.tokenizer, pipeline.text_encoder, pipeline.transformer, pipeline.vae, pipeline.scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    video = [torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)).numpy() for _ in range(5)]

    def change(steps, strength, **changes):
        arguments = {"height": 32, "width": 32, "max_sequence_length": 16, "output_type": "latent", **changes}
        generator = torch.Generator().manual_seed(0)
        call = {"num_inference_steps": steps, "strength": strength, "generator": generator, "guidance_scale": 1.0}
        return pipeline(video, "a red circle", **call, **arguments).frames

    with apply_cache(pipeline, EVERY_THIRD):
        expected = change(10, 0.5)
        with pytest.raises(KeyboardInterrupt):
            change(5, 1.0, callback_on_step_end=give_up(1))
        assert torch.equal(change(10, 0.5), expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ("first", "second", "num_traces"), [(("same", "same"), ("one", "two"), 2), (("one", "two"), ("same", "same"), 1)]
)
def test_guidance_in_the_batch_is_looked_for_in_each_run(tiny_models, first, second, num_traces):
    """Also where timesteps alone show that the run before was given up."""
    tiny = tiny_models["cogvideox"]
    model = tiny.make()
    latents = {name: tiny.latents(seed) for seed, name in enumerate(("same", "one", "two"))}
    text = {name: torch.cat([value, tiny.text(1)[name]]) for name, value in tiny.text(0).items()}

    def call(rows, t):
        tiny.call(model, "cond_uncond", torch.cat([latents[row] for row in rows]), torch.tensor(t), text)

    with apply_cache(model, EACH_VIDEO, 9) as session:
        call(first, 900.0)
        call(first, 800.0)
        with pytest.warns(AdaCacheWarning, match="begins a new run after 2 of 9 steps"):
            call(second, 900.0)
        assert len(session.traces) == num_traces
        session.reset()


@pytest.mark.parametrize("name", ["cogvideox", pytest.param("latte", marks=slow)])
def test_videos_with_the_same_noise_are_not_guidance_branches(name):
    """A pipeline says whether guidance is on; CogVideoX does by its scale alone."""
    pipeline = make_pipeline(name)
    prompts = ["a red circle", "a blue square"]

    def noise():
        return [torch.Generator().manual_seed(0) for _ in prompts]

    with apply_cache(pipeline, EACH_VIDEO) as session:
        for scale, number in ((1.0, [2]), (4.0, [2])):
            generate(pipeline, name, prompt=prompts, generator=noise(), guidance_scale=scale)
            assert [len(branch.traces) for branch in session.branches.values()] == number
            assert session.traces[0][0].rows_computed == (2 if scale == 1.0 else 4)


def test_videos_with_the_same_noise_where_guidance_takes_two_calls():
    """Whose pipeline does not name them."""
    import diffusers

    parts = make_pipeline("wan").components
    pipeline = diffusers.WanVideoToVideoPipeline(
        *(parts[name] for name in ("tokenizer", "text_encoder", "transformer", "vae", "scheduler"))
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1, 1)
    size = {"height": 32, "width": 32, "max_sequence_length": 16, "output_type": "latent"}

    def call(scale):
        prompts = ["a red circle", "a blue square"]
        return pipeline(None, prompts, latents=noise, num_inference_steps=5, guidance_scale=scale, **size).frames

    with apply_cache(pipeline, EACH_VIDEO) as session:
        call(4.0)
        assert {name: len(branch.traces) for name, branch in session.branches.items()} == {"": 2, "call 2": 2}
    reuse = StaticConfig(interval=1, guidance_reuse=GuidanceReuse(interval=2, start=0))
    with apply_cache(pipeline, reuse):
        for scale in (1.0, 4.0):
            with pytest.raises(ValueError, match="guidance_reuse needs both guidance branches of each video"):
                call(scale)


def test_a_number_of_steps_that_is_refused_changes_no_settings():
    numbers = iter([6, 4, 6])

    def check(config, number):
        if number == 4:
            raise ValueError("not 4")

    session = BranchedSession(EVERY_THIRD, lambda: next(numbers), check)
    session.config_for = StaticConfig
    session.count_steps()
    with pytest.raises(ValueError, match="not 4"):
        session.count_steps()
    session.count_steps()
    assert (session.config, session.num_sampling_steps) == (StaticConfig(6), 6)


@torch.no_grad()
def test_a_warning_that_is_an_error_leaves_no_run_behind(tiny_models):
    """Tests run with warnings as errors, as ``python -W error`` does."""
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    with apply_cache(model, EVERY_THIRD, 7) as session:
        expected = tiny.sample(model)
        tiny.sample(model, [1], steps=4)
        with pytest.raises(AdaCacheWarning, match="only 4 of 7 steps ran when the pipeline ended"):
            model._reset_stateful_cache()
        assert torch.equal(tiny.sample(model), expected) and len(session.trace) == 7


@pytest.mark.parametrize("name", ["cogvideox", pytest.param("wan-2.2", marks=slow)])
def test_a_session_that_is_kept_for_its_trace_keeps_nothing_else(name):
    """Neither the pipeline nor latents, also where the cache is detached within a run."""
    config = AdaCacheConfig({1e9: 2, 1e10: 1}, corrector=0.5)
    pipeline, shapes = make_pipeline(name), []

    def look(pipe, step, timestep, tensors):
        shapes.append(tensors["latents"].shape)
        if step == 6:
            raise KeyboardInterrupt
        return {}

    session = apply_cache(pipeline, config)
    with pytest.raises(KeyboardInterrupt):
        # a size of its own, so that no other test holds tensors of this shape
        generate(pipeline, name, 12, height=48, width=16, callback_on_step_end=look)
    session.detach()
    parts = [weakref.ref(part) for part in (pipeline, pipeline.transformer, pipeline.scheduler)]
    del pipeline
    gc.collect()
    assert [part() for part in parts] == [None] * 3
    assert not [x for x in gc.get_objects() if type(x) is torch.Tensor and x.shape == shapes[0]]
    assert len(session.trace) == 7
