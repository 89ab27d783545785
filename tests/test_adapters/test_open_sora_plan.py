"""The LatteT2V of Open-Sora-Plan 1.1.0 with random weights, and its pipeline.

Runs if OPEN_SORA_PLAN_SRC names a folder with its source at v1.1.0; skipped otherwise.
"""

from __future__ import annotations

import os
import sys
import warnings

import pytest
import torch

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.adapters.open_sora_plan.source import import_latte_t2v, import_pipeline
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.trace import computed_steps

STEPS, FRAMES, TEXT = 7, 5, 6
COMPUTED = [1, 2, 5, 6, 7]
RATE_3 = AdaCacheConfig({1e9: 3, 1e10: 1}, decision="sample")
CONFIG = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "in_channels": 4,
    "out_channels": 8,
    "cross_attention_dim": 32,
    "caption_channels": 16,
    "sample_size": (8, 8),
    "patch_size": 2,
    "video_length": FRAMES,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "attention_bias": True,
    "attention_mode": "math",
}
VARIANTS = {"positions": {}, "rotary positions": {"use_rope": True}, "fewer keys": {"compress_kv_factor": 2}}

pytestmark = pytest.mark.filterwarnings("ignore:`scale` is deprecated:FutureWarning")  # its layers pass it


@pytest.fixture(scope="module")
def source():
    """The folder with the source; other packages of the name are set aside while it is used."""
    folder = os.environ.get("OPEN_SORA_PLAN_SRC")
    if not folder:
        pytest.skip("OPEN_SORA_PLAN_SRC names no folder with the source of Open-Sora-Plan 1.1.0")
    pytest.importorskip("peft")
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "opensora"}
    path = list(sys.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "opensora"]:
        del sys.modules[name]
    sys.modules.update(others)
    sys.path[:] = path


def make(source, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = import_latte_t2v(source)(**CONFIG, **changes).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model


@pytest.fixture(params=VARIANTS)
def model(request, source):
    return make(source, **VARIANTS[request.param])


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def sample(model, seeds=(1,)):
    """Denoise one video per seed with guidance in one batch, as VideoGenPipeline does."""
    text = torch.cat([random(1000, 1, TEXT, 16)] * len(seeds) + [random(seed, 1, TEXT, 16) for seed in seeds])
    x = torch.cat([random(seed, 1, 4, FRAMES, 8, 8) for seed in seeds])
    for t in torch.linspace(999, 142, STEPS):
        out = model(torch.cat([x, x]), timestep=t.expand(len(text)), encoder_hidden_states=text, return_dict=False)[0]
        uncond, cond = out[:, :4].chunk(2)
        x = x - (uncond + 3 * (cond - uncond)) / STEPS
    return x


def test_a_codebook_of_ones_is_bit_identical_and_detaching_leaves_nothing(model):
    plain, before = sample(model), [set(vars(module)) for module in model.modules()]
    session = apply_cache(model, AdaCacheConfig({1.0: 1}, moreg=MoRegConfig(steps=(2, 6))), STEPS)
    assert torch.equal(sample(model), plain)
    session.detach()
    assert [set(vars(module)) for module in model.modules()] == before
    assert computed_steps(session.trace) == [*range(1, STEPS + 1)]
    assert all(record.distance > 0 and record.motion > 0 for record in session.trace[1:6])


def test_schedule_blocks_repetition_and_memory(model):
    calls = []
    for block in (*model.transformer_blocks, *model.temporal_transformer_blocks):
        block.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    plain = sample(model)
    calls.clear()
    with apply_cache(model, RATE_3, STEPS) as session:
        first = sample(model)
        assert torch.equal(sample(model), first) and not torch.equal(first, plain)
    assert computed_steps(session.trace) == COMPUTED and len(calls) == 2 * 4 * len(COMPUTED)
    assert 0 < session.peak_cache_bytes <= 2.1 * (2 * FRAMES * 16 * 32 * 4)
    assert (first - plain).norm() < 0.2 * plain.norm()


def test_a_batch_of_two_equals_two_single_calls(model):
    distances, single, schedules = [], [], []
    for seed in (1, 2):
        with apply_cache(model, AdaCacheConfig({1.0: 1}), STEPS) as session:
            sample(model, [seed])
        distances.append(session.trace[1].distance)
    config = AdaCacheConfig({sum(distances) / 2: 3, 1e9: 1}, decision="sample")
    for seed in (1, 2):
        with apply_cache(model, config, STEPS) as session:
            single.append(sample(model, [seed]))
        schedules.append(computed_steps(session.trace))
    with apply_cache(model, config, STEPS) as session:
        together = sample(model, [1, 2])
    assert [computed_steps(trace) for trace in session.traces] == schedules and schedules[0] != schedules[1]
    torch.testing.assert_close(together, torch.cat(single), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        TeaCacheConfig(threshold=0.3, coefficients=(1.0, 0.0)),
        ForecastCacheConfig(computed_steps=5, sensitivity=(2.0, 1.0)),
        AdaCacheConfig({1e9: 3, 1e10: 1}, cache_res="s-attn", cache_loc=(1,)),
    ],
)
def test_other_policies(model, config):
    plain = sample(model)
    with apply_cache(model, config, STEPS) as session:
        cached = sample(model)
    assert 1 < len(computed_steps(session.trace)) < STEPS and (cached - plain).norm() < 0.2 * plain.norm()


def test_an_exception_leaves_the_next_call_clean(source):
    model = make(source)
    with apply_cache(model, RATE_3, STEPS):
        expected, calls = sample(model), []

        def fail(module, inputs):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("lost the device")

        handle = model.temporal_transformer_blocks[1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="lost the device"):
            sample(model)
        handle.remove()
        assert torch.equal(sample(model), expected)


def test_an_image_runs_no_temporal_blocks(source):
    model = make(source)
    with apply_cache(model, RATE_3, STEPS), pytest.raises(ValueError, match="without its temporal blocks"):
        model(
            random(0, 2, 4, FRAMES, 8, 8),
            timestep=torch.tensor([900.0, 900.0]),
            encoder_hidden_states=random(1, 2, TEXT, 16),
            enable_temporal_attentions=False,
        )


@pytest.mark.filterwarnings("ignore")
def test_its_own_pipeline(source):
    """VideoGenPipeline of the source, with a tiny text encoder; `apply_cache` reads its number of steps."""
    from diffusers import DDIMScheduler

    from opensora_adacache.testing.pipelines import make_pipeline

    parts = make_pipeline("latte").components
    parts["vae"].vae_scale_factor = (4, 8, 8)  # of the source's own, which the test does not run
    pipeline = import_pipeline(source)(
        tokenizer=parts["tokenizer"],
        text_encoder=parts["text_encoder"],
        vae=parts["vae"],
        transformer=make(source),
        scheduler=DDIMScheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)

    def generate(steps=6):
        return pipeline(
            "a red circle",
            num_frames=4 * (FRAMES - 1) + 1,
            height=64,
            width=64,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(0),
            output_type="latents",
            return_dict=False,
        )[0]

    plain = generate()
    with apply_cache(pipeline, AdaCacheConfig({1.0: 1})):
        assert torch.equal(generate(), plain)
    with apply_cache(pipeline, AdaCacheConfig({1e9: 2, 1e10: 1})) as session:
        first = generate()
        assert computed_steps(session.trace) == [1, 2, 4, 5, 6]
        assert torch.equal(generate(), first) and not torch.equal(first, plain)
        generate(4)
        assert len(session.trace) == 4


def test_another_version_is_refused(source):
    from diffusers.configuration_utils import FrozenDict

    model = make(source)
    model._internal_dict = FrozenDict({key: value for key, value in model.config.items() if "kv_factor" not in key})
    with pytest.raises(ValueError, match=r"cannot cache this LatteT2V: its config has no compress_kv_factor, so it is"):
        apply_cache(model, RATE_3, STEPS)


def test_a_folder_that_is_no_source(tmp_path):
    with pytest.raises(ValueError, match=r"has no modeling_latte.py; pass a source tree of Open-Sora-Plan v1\.1\.0"):
        import_latte_t2v(tmp_path)
