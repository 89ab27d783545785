"""What users do with a pipeline while a cache is attached: callbacks, repetition, unequal prompts, another pipeline."""

from __future__ import annotations

import inspect

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.trace import computed_steps

slow = pytest.mark.slow
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # raised inside Mochi


def with_callbacks(family):
    """A pipeline that calls back at the end of each step; HunyuanVideo 1.5 does not."""
    pipeline = family.make()
    if "callback_on_step_end" not in inspect.signature(type(pipeline).__call__).parameters:
        pytest.skip(f"{type(pipeline).__name__} takes no callback")
    return pipeline


def test_a_callback_that_interrupts(family):
    """Nothing is missing from a run that a user has stopped, and the next one begins anew."""
    pipeline = with_callbacks(family)

    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = step == 2
        return {}

    with apply_cache(pipeline, family.rate_2) as session:
        family.generate(pipeline, callback_on_step_end=stop)
        assert [len(branch.trace) for branch in session.branches.values()] == [3] * len(session.branches)
        assert torch.equal(family.check(pipeline, session), family.cached)
    with apply_cache(pipeline, family.rate_2):
        family.generate(pipeline, callback_on_step_end=stop)


def test_a_callback_that_switches_guidance_off(families):
    """Wan stops to call the transformer for the null prompt; the prompt's branch goes on by itself."""
    family = families["wan"]
    pipeline = family.make()

    def switch_off(pipe, step, timestep, tensors):
        pipe._guidance_scale = 1.0 if step >= 1 else pipe._guidance_scale
        return {}

    plain = family.generate(pipeline, callback_on_step_end=switch_off)
    with apply_cache(pipeline, family.ones):
        assert torch.equal(family.generate(pipeline, callback_on_step_end=switch_off), plain)
    with apply_cache(pipeline, family.rate_2) as session:
        first = family.generate(pipeline, callback_on_step_end=switch_off)
        assert {name: len(branch.trace) for name, branch in session.branches.items()} == {"cond": 5, "uncond": 2}
        assert computed_steps(session.branches["cond"].trace) == family.computed
        assert torch.equal(family.generate(pipeline, callback_on_step_end=switch_off), first)
        assert torch.equal(family.check(pipeline, session), family.cached)


@slow
def test_a_callback_that_changes_the_latents_and_the_guidance(family):
    pipeline = with_callbacks(family)

    def change(pipe, step, timestep, tensors):
        pipe._guidance_scale = 2.0 + step
        return {"latents": 0.9 * tensors["latents"]}

    plain = family.generate(pipeline, callback_on_step_end=change)
    with apply_cache(pipeline, family.ones):
        assert torch.equal(family.generate(pipeline, callback_on_step_end=change), plain)
    with apply_cache(pipeline, family.rate_2) as session:
        cached = family.generate(pipeline, callback_on_step_end=change)
        assert computed_steps(session.trace) == family.computed and not torch.equal(cached, plain)


@slow
def test_repeated_calls_as_in_freeinit(family):
    """Each round denoises again from latents that the one before left, with all of the steps."""
    pipeline = family.make()

    def rounds():
        latents = None
        for _ in range(3):
            out = family.generate(pipeline, latents=latents)
            out = out.transpose(1, 2) if family.name == "cogvideox" and out.shape[1] == 4 else out
            latents = torch.lerp(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)), out, 0.3)
        return out

    plain = rounds()
    with apply_cache(pipeline, family.ones):
        assert torch.equal(rounds(), plain)
    with apply_cache(pipeline, family.rate_2) as session:
        first = rounds()
        assert computed_steps(session.trace) == family.computed
        assert torch.equal(rounds(), first) and not torch.equal(first, plain)


@slow
def test_another_number_of_steps_per_call(family):
    pipeline = family.make()
    expected = {}
    for steps in (5, 8):
        with apply_cache(pipeline.transformer, family.rate_2, steps):
            expected[steps] = family.generate(pipeline, num_inference_steps=steps)
    with apply_cache(pipeline, family.rate_2) as session:
        for steps in (5, 8, 5):
            assert torch.equal(family.generate(pipeline, num_inference_steps=steps), expected[steps])
            assert [len(branch.trace) for branch in session.branches.values()] == [steps] * len(session.branches)


@slow
def test_unequal_prompts_in_a_batch(family):
    """Each video decides for itself, so that a batch gives what single calls give."""
    pipeline = family.make()
    prompts = ["a red circle", "two blue squares that rush from the left to the right"]
    seeds, more = (1, 2), {"mask_feature": False} if family.name == "latte" else {}  # else Latte cuts texts by batch
    alone, schedules, distances = [], [], []
    for config in (family.ones, None):
        if config is None:
            between = sum(distances) / 2
            config = AdaCacheConfig({between: 3, 1e9: 1}, decision="sample")
        for prompt, seed in zip(prompts, seeds, strict=True):
            with apply_cache(pipeline, config) as session:
                video = family.generate(pipeline, prompt, generator=torch.Generator().manual_seed(seed), **more)
            branches = session.branches.values()
            distances.append(next(iter(branches)).trace[1].distance)
            alone.append(video)
            schedules.append([computed_steps(branch.trace) for branch in branches])
    assert schedules[2] != schedules[3]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with apply_cache(pipeline, config) as session:
        together = family.generate(pipeline, prompts, generator=generators, **more)
    found = [[computed_steps(branch.traces[video]) for branch in session.branches.values()] for video in (0, 1)]
    assert found == schedules[2:]
    torch.testing.assert_close(together, torch.cat(alone[2:]), atol=2e-5, rtol=1e-4)


@slow
def test_tiles_and_slices_of_the_vae(family):
    """The decoder is no part of the cache."""
    pipeline = family.make()
    tiled = [name for name in ("enable_tiling", "enable_slicing") if hasattr(pipeline.vae, name)]
    assert tiled
    for name in tiled:
        getattr(pipeline.vae, name)()
    plain = family.generate(pipeline, output_type="pt")
    with apply_cache(pipeline, family.ones):
        assert torch.equal(family.generate(pipeline, output_type="pt"), plain)
    with apply_cache(pipeline, family.rate_2) as session:
        assert family.generate(pipeline, output_type="pt").isfinite().all()
        assert torch.equal(family.check(pipeline, session), family.cached)


@slow
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_another_attention_backend(family, before, monkeypatch):
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry as registry

    monkeypatch.setattr(registry, "_active_backend", registry._active_backend)  # it is set for all models

    def change(pipeline):
        pipeline.transformer.set_attention_backend("_native_math")

    cached = family.check_all(family.make(), change, before)
    torch.testing.assert_close(cached, family.cached, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "other", "scheduler"),
    [
        ("wan", "WanVideoToVideoPipeline", None),
        pytest.param("cogvideox", "CogVideoXVideoToVideoPipeline", "CogVideoXDPMScheduler", marks=slow),
    ],
)
def test_from_pipe(families, name, other, scheduler):
    """Another pipeline with the same transformer: a cache that is applied to it reads its number of steps."""
    import diffusers

    family = families[name]
    pipeline = family.make()
    if scheduler:
        pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    twin = getattr(diffusers, other).from_pipe(pipeline)
    assert twin.transformer is pipeline.transformer
    video = [torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)).numpy() for _ in range(5)]

    def change(steps, strength):
        arguments = {"num_inference_steps": steps, "strength": strength, "output_type": "latent"}
        arguments |= {"height": 32, "width": 32, "generator": torch.Generator().manual_seed(0)}
        return twin(video, "a red circle", max_sequence_length=16, **arguments).frames

    plain = change(10, 0.6)
    with apply_cache(twin, family.ones) as session:
        assert torch.equal(change(10, 0.6), plain) and len(session.trace) == 6
    expected = family.generate(pipeline)
    with apply_cache(pipeline, family.ones) as session:
        assert torch.equal(family.generate(pipeline), expected) and len(session.trace) == 5
        with pytest.warns(UserWarning, match="or the pipeline that you call"):
            assert torch.equal(change(10, 0.6), plain)
        assert torch.equal(family.generate(pipeline), expected) and len(session.trace) == 5


@slow
@pytest.mark.filterwarnings("ignore")
def test_no_video_pipeline_takes_an_ip_adapter():
    """Those of diffusers that do have a UNet, or make images."""
    import diffusers
    from diffusers.loaders import ip_adapter

    families = (
        "Allegro",
        "AnyFlow",
        "ChronoEdit",
        "CogVideoX",
        "ConsisID",
        "Cosmos",
        "EasyAnimate",
        "Helios",
        "Hunyuan",
    )
    families += (
        "Kandinsky5",
        "Kandinsky6",
        "LTX",
        "Latte",
        "MiniMax",
        "Mochi",
        "Motif",
        "SanaVideo",
        "SkyReels",
        "Wan",
    )
    mixins = tuple(value for name, value in vars(ip_adapter).items() if name.endswith("IPAdapterMixin"))
    names = [name for name in dir(diffusers) if name.startswith(families) and name.endswith("Pipeline")]
    assert len(names) > 40 and len(mixins) > 2
    assert not [name for name in names if issubclass(getattr(diffusers, name), mixins) and "DiT" not in name]
