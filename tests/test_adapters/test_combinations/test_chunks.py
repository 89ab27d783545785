"""Autoregressive pipelines: each chunk of a video is a run of its own, with its own decisions."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, apply_cache
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.testing import pipelines as tiny

slow = pytest.mark.slow
STEPS = 6
ONES = AdaCacheConfig({1.0: 1})
RATE_2 = AdaCacheConfig({1e9: 2, 1e10: 1})
COMPUTED = [1, 2, 4, 5, 6]
WAN = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 64,
}
SIZE = {"height": 32, "width": 32, "output_type": "latent", "num_inference_steps": STEPS}


def assembled(pipeline_class, transformer_class, scheduler, **changes):
    """A pipeline with the text encoder and the VAE of Wan, and a transformer with random weights."""
    import diffusers

    parts = tiny.make_pipeline("wan").components
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = getattr(diffusers, transformer_class)(**WAN, **changes).eval().requires_grad_(False)
        for parameter in transformer.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    names = ("tokenizer", "text_encoder", "vae")
    pipeline = getattr(diffusers, pipeline_class)(
        **{name: parts[name] for name in names}, transformer=transformer, scheduler=scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def helios():
    import diffusers

    pipeline = assembled(
        "HeliosPipeline",
        "HeliosTransformer3DModel",
        diffusers.HeliosScheduler(stages=1, stage_range=[0, 1]),
        rope_dim=(4, 6, 6),
    )

    def call(**changes):
        more = {**SIZE, "num_frames": 24, "history_sizes": [4, 2, 1], "num_latent_frames_per_chunk": 3, **changes}
        return pipeline(
            "a red circle", generator=torch.Generator().manual_seed(0), max_sequence_length=16, **more
        ).frames

    return pipeline, call, 3, 2


def skyreels(**changes):
    import diffusers

    scheduler = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    pipeline = assembled(
        "SkyReelsV2DiffusionForcingPipeline", "SkyReelsV2Transformer3DModel", scheduler, rope_max_seq_len=64
    )
    more = {**SIZE, "num_frames": 33, "base_num_frames": 17, "overlap_history": 9, "addnoise_condition": 20, **changes}

    def call(**changes):
        with torch.random.fork_rng():
            torch.manual_seed(0)  # for the noise on the frames of the chunk before
            generator = torch.Generator().manual_seed(0)
            return pipeline("a red circle", generator=generator, max_sequence_length=16, **{**more, **changes}).frames

    return pipeline, call, 3, 2


def anyflow():
    import diffusers

    pipeline = assembled(
        "AnyFlowFARPipeline",
        "AnyFlowFARTransformer3DModel",
        diffusers.FlowMapEulerDiscreteScheduler(),
        rope_max_seq_len=64,
        full_chunk_limit=2,
        chunk_partition=(1, 2, 2),
    )

    def call(**changes):
        more = {**SIZE, "num_frames": 17, **changes}
        return pipeline(
            "a red circle", generator=torch.Generator().manual_seed(0), max_sequence_length=16, **more
        ).frames

    return pipeline, call, 3, 1


def framepack():
    """FramePack with a stand-in for its two text encoders and its image encoder, whose features are given."""
    import diffusers
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = diffusers.HunyuanVideoFramepackTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            num_single_layers=2,
            num_refiner_layers=1,
            text_embed_dim=16,
            pooled_projection_dim=8,
            rope_axes_dim=(4, 6, 6),
            has_image_proj=True,
            has_clean_x_embedder=True,
            image_proj_dim=16,
        )
        for parameter in transformer.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        vae = diffusers.AutoencoderKLHunyuanVideo(
            latent_channels=4,
            down_block_types=("HunyuanVideoDownBlock3D",) * 4,
            up_block_types=("HunyuanVideoUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
        )
        vision = SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
        encoder = SiglipVisionModel(vision)
    for part in (transformer, vae, encoder):
        part.eval().requires_grad_(False)
    pipeline = diffusers.HunyuanVideoFramepackPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=vae,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=None,
        tokenizer_2=None,
        image_encoder=encoder,
        feature_extractor=SiglipImageProcessor(size={"height": 32, "width": 32}),
    )
    pipeline.set_progress_bar_config(disable=True)
    gen = torch.Generator().manual_seed(5)
    texts = {
        f"{which}{name}": value
        for which in ("", "negative_")
        for name, value in (
            ("prompt_embeds", torch.randn(1, 6, 16, generator=gen)),
            ("pooled_prompt_embeds", torch.randn(1, 8, generator=gen)),
            ("prompt_attention_mask", torch.ones(1, 6)),
        )
    }
    image = torch.rand(1, 3, 64, 64, generator=gen)

    def call(**changes):
        more = {**SIZE, "height": 64, "width": 64, "num_frames": 17, "latent_window_size": 3, "true_cfg_scale": 2.0}
        generator = torch.Generator().manual_seed(0)
        return pipeline(image, **texts, generator=generator, **{**more, **changes}).frames[-1]

    return pipeline, call, 2, 2


PIPELINES = (helios, skyreels, anyflow, framepack)


@pytest.mark.filterwarnings("ignore:.*flex_attention.*:UserWarning", "ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize(
    "make",
    [make if make is skyreels else pytest.param(make, marks=slow) for make in PIPELINES],
    ids=lambda make: make.__name__,
)
def test_each_chunk_is_a_run(make):
    pipeline, call, chunks, branches = make()
    plain = call()
    with apply_cache(pipeline, ONES) as session:
        assert torch.equal(call(), plain)
        assert len(session.branches) == branches
        for branch in session.branches.values():
            assert [computed_steps(trace) for (trace,) in branch.runs] == [[*range(1, STEPS + 1)]] * chunks
        distances = [trace[1].distance for (trace,) in session.runs]
        assert len(set(distances)) == chunks  # measured in each chunk anew
    calls = []
    blocks = [child for name, child in pipeline.transformer.named_children() if name.endswith("blocks")]
    handle = blocks[0][0].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    call()
    aside = len(calls) - chunks * STEPS * branches  # calls that fill a memory of the model
    calls.clear()
    with apply_cache(pipeline, RATE_2) as session:
        first = call()
        assert [computed_steps(trace) for (trace,) in session.runs] == [COMPUTED] * chunks
        assert len(calls) == chunks * len(COMPUTED) * branches + aside
        assert session.runs[-1] == session.traces
        handle.remove()
        assert torch.equal(call(), first) and len(session.runs) == chunks
        assert first.isfinite().all() and not torch.equal(first, plain)
    between = sorted(distances)[0] * 1.0001  # chunks decide for themselves
    with apply_cache(pipeline, AdaCacheConfig({between: 3, 1e9: 1})) as session:
        call()
    schedules = [computed_steps(trace) for (trace,) in session.runs]
    assert len(schedules) == chunks and len({tuple(schedule) for schedule in schedules}) > 1


@slow
@pytest.mark.filterwarnings("ignore:ForecastCache has no profile:UserWarning")
def test_frames_that_are_denoised_one_after_another():
    """Asynchronous diffusion forcing: more steps, in which each frame has its own timestep."""
    pipeline, call, *_ = skyreels(base_num_frames=17, overlap_history=None, num_frames=17, ar_step=2)
    plain = call()
    with apply_cache(pipeline, ONES) as session:
        assert torch.equal(call(), plain)
    steps = len(session.trace)
    assert steps > STEPS and len(session.runs) == 1
    for config in (RATE_2, ForecastCacheConfig(computed_steps=steps - 2, sensitivity=(1.0, 1.0))):
        with apply_cache(pipeline, config) as session:
            first = call()
            assert first.isfinite().all() and torch.equal(call(), first)
            assert len(session.trace) == steps and len(computed_steps(session.trace)) < steps


def test_runs_of_a_pipeline_that_is_called_again(families):
    """A pipeline that makes the whole video at once has one run; the next call forgets it."""
    family = families["wan"]
    pipeline = family.make()
    with apply_cache(pipeline, RATE_2) as session:
        for _ in range(2):
            family.generate(pipeline)
            assert [computed_steps(trace) for (trace,) in session.runs] == [family.computed]
            assert session.runs == [session.traces]
        session.reset()
        assert session.runs == []
