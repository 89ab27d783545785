"""Which calls of the model belong to one step: branches and tiles without a name, and windows of a video."""

from __future__ import annotations

import diffusers
import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.adapters.diffusers.pipeline_steps import count_steps, scheduler_position
from opensora_adacache.adapters.twin_calls import TwinCalls
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.testing.pipelines import TEXT_LENGTH, make_pipeline

slow = pytest.mark.slow
pytestmark = pytest.mark.filterwarnings("ignore:a run of . steps is short")
ONES, RATE_2 = AdaCacheConfig({1.0: 1}), AdaCacheConfig({1e9: 2, 1e10: 1})
STEPS, COMPUTED = 7, [1, 2, 4, 6, 7]
SIGMAS = [1.0, 0.99, 0.95, 0.9, 0.8, 0.6, 0.4]
CALL = {"prompt": "a red circle", "max_sequence_length": TEXT_LENGTH, "output_type": "latent"}


def names(calls):
    twins = TwinCalls()
    return [twins.name_of(torch.full((size,), value), torch.tensor([t]), place) for size, value, t, place in calls]


def test_a_step_lasts_until_the_scheduler_takes_it():
    """Also where the latents of a step's calls differ in values, or in size."""
    first, second = [(2, 1.0, 900.0, 0), (2, 2.0, 900.0, 0)], [(2, 3.0, 800.0, 1), (3, 4.0, 790.0, 1)]
    assert names(first + second) == ["", "call 2", "", "call 2"]
    # Heun's second call of a step is at the timestep of the next one
    assert names([(2, 1.0, 900.0, 0), (2, 2.0, 800.0, 1), (2, 3.0, 800.0, 2)]) == ["", "", ""]


def test_a_scheduler_that_takes_no_steps_tells_nothing():
    """A loop of the user's own around a pipeline's transformer."""
    calls = [(2, value, t, 0) for value, t in ((1.0, 900.0), (2.0, 800.0), (2.0, 800.0), (3.0, 800.0))]
    assert names(calls) == ["", "", "call 2", ""]


def test_calls_with_the_same_timestep_belong_to_one_step():
    twins, t = TwinCalls(), torch.tensor([900.0])
    assert [twins.name_of(torch.full((2,), value), t) for value in (1.0, 2.0)] == ["", "call 2"]
    assert twins.name_of(torch.ones(2), t.clone()) == ""
    t.fill_(800.0)
    assert twins.name_of(torch.full((2,), 3.0), t) == ""


@torch.no_grad()
def test_a_pipeline_that_drops_frames_within_a_run(tiny_models):
    """The policy begins anew with the steps that are left; the next call has all of them again."""
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()

    def sample():
        x, outs = tiny.latents(0), []
        for index, t in enumerate(torch.linspace(1000, 100, 10)):
            x = x[:, :, ::3] if index == 4 else x
            outs.append(tiny.call(model, "cond", x, t, tiny.text(0)))
            x = x - outs[-1] / 10
        return outs

    plain = sample()
    for config, computed in ((ONES, [1, 2, 3, 4, 5, 6]), (StaticConfig(interval=3), [1, 4, 6])):
        with apply_cache(model, config, 10) as session:
            with pytest.raises(ValueError, match="latents changed from .* at step 5 of 10"):
                sample()  # of a model by itself, another video could be meant
            session.begins_call = lambda: False
            cached = sample()
            assert computed_steps(session.trace) == computed and session.cache_bytes() == 0
            assert all(map(torch.equal, sample(), cached)) and len(session.trace) == 6
        assert torch.equal(cached[4], plain[4]) is (config is ONES)
    session = apply_cache(model, PlannedConfig((1, 10)), 10)
    session.begins_call = lambda: False
    with pytest.raises(
        ValueError, match="after 4 of 10 steps, and the policy begins anew with the 6 that are left: .*10"
    ):
        sample()
    session.detach()
    assert all(map(torch.equal, sample(), plain))


def made(pipeline_class, parts, **changes):
    pipeline = getattr(diffusers, pipeline_class)(**{**parts, **changes})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ltx_windows():
    """A video in windows of eight latent frames, whose loop leaves out the last timestep."""
    parts = make_pipeline("ltx-video").components
    pipeline = made("LTXI2VLongMultiPromptPipeline", parts, scheduler=diffusers.LTXEulerAncestralRFScheduler())
    sigmas = [*SIGMAS, 0.0]
    size = {"height": 32, "width": 32, "num_frames": 17, "temporal_tile_size": 16, "temporal_overlap": 8}
    return pipeline, {**CALL, **size, "sigmas": sigmas}, ["cond_uncond"], 2


def ltx_2_parts():
    parts = {name: part for name, part in make_pipeline("ltx-2").components.items() if part is not None}
    config = {key: value for key, value in parts["transformer"].config.items() if not key.startswith("_")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = diffusers.LTX2VideoTransformer3DModel(**config | {"use_keyframes_abs_pos_embedding": True})
    parts["transformer"] = transformer.eval().requires_grad_(False)
    return {**parts, "scheduler": diffusers.FlowMatchEulerDiscreteScheduler()}


def ltx_2_tiles():
    """A video of which the transformer gets four tiles at each step."""
    from diffusers.pipelines.ltx2.dfr_layout import epilogue_tiles

    pipeline = made("LTX2DFRPipeline", ltx_2_parts())
    call = {**CALL, "height": 64, "width": 64, "num_frames": 17, "sigmas": SIGMAS}
    return (
        pipeline,
        {**call, "video_tiles": epilogue_tiles((9, 8, 8), 1, [])},
        ["", *(f"call {n}" for n in (2, 3, 4))],
        1,
    )


def cosmos():
    """A video that continues an image: each branch gets noise of its own on the image's latents."""
    parts = make_pipeline("wan").components

    class Allows(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.float32

        def to(self, *args, **kwargs):
            return self

        def check_text_safety(self, prompt):
            return True

    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = diffusers.CosmosTransformer3DModel(
            in_channels=5,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            text_embed_dim=16,
            adaln_lora_dim=4,
            max_size=(8, 16, 16),
            concat_padding_mask=False,
        )
        vae = diffusers.AutoencoderKLCosmos(
            latent_channels=4,
            encoder_block_out_channels=(8, 8, 8, 8),
            decode_block_out_channels=(8, 8, 8, 8),
            attention_resolutions=(8,),
            resolution=64,
            num_layers=1,
            latents_mean=None,
            latents_std=None,
        )
    for part in (transformer, vae):
        part.eval().requires_grad_(False)
    pipeline = made(
        "CosmosVideoToWorldPipeline",
        {name: parts[name] for name in ("text_encoder", "tokenizer")},
        transformer=transformer,
        vae=vae,
        scheduler=diffusers.EDMEulerScheduler(sigma_max=80.0, sigma_data=0.5, final_sigmas_type="sigma_min"),
        safety_checker=Allows(),
    )
    embeds = {
        f"{kind}prompt_embeds": torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(1 + len(kind)))
        for kind in ("", "negative_")
    }
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    size = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS, "output_type": "latent"}
    return pipeline, {**size, **embeds, "image": image, "augment_sigma": 2.0}, ["", "call 2"], 1


@pytest.mark.filterwarnings("ignore:.*cuda:UserWarning")
@slow
@pytest.mark.parametrize("make", [ltx_windows, ltx_2_tiles, cosmos])
def test_each_window_tile_and_branch_keeps_its_own_steps(make):
    pipeline, arguments, branches, num_runs = make()

    def call():
        return pipeline(**arguments, generator=torch.Generator().manual_seed(0)).frames

    plain = call()
    with apply_cache(pipeline, ONES) as session:
        assert torch.equal(call(), plain)
        assert [len(branch.trace) for branch in session.branches.values()] == [STEPS] * len(branches)
    with apply_cache(pipeline, RATE_2) as session:
        cached = call()
        assert list(session.branches) == branches and session.cache_bytes() == 0
        for branch in session.branches.values():
            assert [computed_steps(trace) for (trace,) in branch.runs] == [COMPUTED] * num_runs
        assert torch.equal(call(), cached) and not torch.equal(cached, plain)


class Called:
    """A pipeline in the middle of a call."""

    num_timesteps = 24

    def __init__(self, scheduler):
        self.scheduler = scheduler
        scheduler.set_timesteps(7)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("AnyFlowFARPipeline", 7),
        ("LTX2DFRTemporalRefinePipeline", 6),
        ("LTXI2VLongMultiPromptPipeline", 6),
        ("Other", 24),
    ],
)
def test_steps_of_a_pipeline_that_counts_all_of_its_runs(name, steps):
    pipeline = type(name, (Called,), {})(diffusers.FlowMatchEulerDiscreteScheduler())
    assert count_steps(pipeline) == steps and scheduler_position(pipeline) == 0
    assert scheduler_position(Called(diffusers.DDIMScheduler())) is None
