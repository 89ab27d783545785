"""The MMDiT of Open-Sora 2.0 with random weights, sampled by its own denoiser.

Runs if OPENSORA_2_SRC names a folder with its source; skipped otherwise. Packages with kernels for GPUs only
(flash-attn, liger-kernel, tensornvme) and colossalai are replaced by torch where they are not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
import torch

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.caching.policies.bwcache import BWCacheConfig
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.seacache import SeaCacheConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.trace import computed_steps

STEPS, FRAMES, SIZE, TEXT = 7, 3, 8, 6
COMPUTED = [1, 2, 5, 6, 7]
RATE_3 = AdaCacheConfig({1e9: 3, 1e10: 1})
CONFIG = {
    "from_pretrained": "",
    "cache_dir": "",
    "in_channels": 16,
    "vec_in_dim": 8,
    "context_in_dim": 16,
    "hidden_size": 32,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 3,
    "axes_dim": [4, 6, 6],
    "theta": 10_000,
    "qkv_bias": True,
    "guidance_embed": False,
    "cond_embed": True,
}
# the published checkpoint's and the other way to write the same layers
VARIANTS = {"published": {"fused_qkv": False, "use_liger_rope": True}, "fused": {"fused_qkv": True}}


def flash_attention(q, k, v):
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)


class RMSNorm:
    """liger-kernel's function, in torch."""

    @staticmethod
    def apply(x, scale, eps, *_):
        return torch.nn.functional.rms_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype) * scale


class Rope:
    """liger-kernel's function, in torch: rotates the halves of each head."""

    @staticmethod
    def apply(q, k, cos, sin):
        def turn(x):
            one, two = x.chunk(2, dim=-1)
            return x * cos[:, None] + torch.cat([-two, one], dim=-1) * sin[:, None]

        return turn(q), turn(k)


class Anything(types.ModuleType):
    """A module that has every name, for imports that are not used here."""

    __path__: list = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


STAND_INS = {
    "flash_attn": {"flash_attn_func": flash_attention},
    "liger_kernel": {},
    "liger_kernel.ops": {},
    "liger_kernel.ops.rms_norm": {"LigerRMSNormFunction": RMSNorm},
    "liger_kernel.ops.rope": {"LigerRopeFunction": Rope},
    "tensornvme": {},
    "tensornvme.async_file_io": {},
    "colossalai": {},
    "colossalai.booster": {},
    "colossalai.checkpoint_io": {},
    "colossalai.utils": {},
    "colossalai.utils.safetensors": {},
    "colossalai.zero": {},
    "colossalai.zero.low_level": {},
    "colossalai.cluster": {},
}


@pytest.fixture(scope="module")
def upstream():
    """The modules that define upstream's MMDiT and its denoisers; other packages of the name are set aside."""
    source = os.environ.get("OPENSORA_2_SRC")
    if not source:
        pytest.skip("OPENSORA_2_SRC names no folder with the source of Open-Sora 2.0")
    before, path, compile_ = dict(sys.modules), list(sys.path), torch.compile
    for name in [name for name in sys.modules if name.partition(".")[0] == "opensora"]:
        del sys.modules[name]
    for name, values in STAND_INS.items():
        if name.partition(".")[0] in sys.modules or importlib.util.find_spec(name.partition(".")[0]) is None:
            module = sys.modules[name] = Anything(name)
            vars(module).update(values)
    for name in ("opensora", "opensora.models"):  # their own __init__ imports every VAE and text encoder
        package = sys.modules[name] = types.ModuleType(name)
        package.__path__ = [str(Path(source, *name.split(".")))]
    sys.path.insert(0, source)
    torch.compile = lambda *args, **kwargs: lambda function: function  # of one function, with a compiler that is slow
    try:
        yield types.SimpleNamespace(
            model=importlib.import_module("opensora.models.mmdit.model"),
            sampling=_sampling(),
        )
    finally:
        torch.compile = compile_
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in ("opensora", *STAND_INS):
                del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name.startswith("opensora.")})
        sys.path[:] = path


def _sampling():
    """Upstream's module with the denoisers; what it imports for files, encoders and prompts is left out."""
    for name in ("datasets", "datasets.aspect", "datasets.utils", "models.text.conditioner", "utils.prompt_refine"):
        sys.modules[f"opensora.{name}"] = Anything(f"opensora.{name}")
    return importlib.import_module("opensora.utils.sampling")


@pytest.fixture(params=VARIANTS)
def model(request, upstream):
    return make(upstream, **VARIANTS[request.param])


def make(upstream, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = upstream.model.MMDiTModel(upstream.model.MMDiTConfig(**{**CONFIG, **changes})).eval()
        model.requires_grad_(False)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def sample(upstream, model, seeds=(1,), steps=STEPS):
    """Denoise one video per seed with upstream's I2VDenoiser: three guidance branches in one batch."""
    sampling, number = upstream.sampling, len(seeds)
    z = torch.cat([random(seed, 1, 4, FRAMES, SIZE, SIZE) for seed in seeds])
    text = torch.cat([random(10 + seed, 1, TEXT, 16) for seed in seeds] + [random(99, 1, TEXT, 16)] * (2 * number))
    pooled = torch.cat([random(20 + seed, 1, 8) for seed in seeds] + [random(98, 1, 8)] * (2 * number))
    inputs = sampling.prepare_ids(torch.cat([z] * 3), text, pooled)
    return sampling.I2VDenoiser().denoise(
        model,
        **inputs,
        timesteps=sampling.get_schedule(steps, SIZE * SIZE // 4, FRAMES),
        guidance=4.0,
        guidance_img=2.0,
        masks=torch.zeros(number, 1, FRAMES, SIZE, SIZE),
        masked_ref=torch.zeros(number, 4, FRAMES, SIZE, SIZE),
        sigma_min=1e-5,
    )


def test_a_codebook_of_ones_is_bit_identical_and_detaching_leaves_nothing(upstream, model):
    plain, before = sample(upstream, model), [set(vars(module)) for module in model.modules()]
    session = apply_cache(model, AdaCacheConfig({1.0: 1}, moreg=MoRegConfig(steps=(2, 6))), STEPS)
    assert torch.equal(sample(upstream, model), plain)
    session.detach()
    assert [set(vars(module)) for module in model.modules()] == before
    assert computed_steps(session.trace) == [*range(1, STEPS + 1)]
    assert all(record.distance > 0 and record.motion > 0 for record in session.trace[1:6])


def test_schedule_blocks_repetition_and_memory(upstream, model):
    calls, plain = [], sample(upstream, model)
    for block in (*model.double_blocks, *model.single_blocks):
        block.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    with apply_cache(model, RATE_3, STEPS) as session:
        first = sample(upstream, model)
        assert torch.equal(sample(upstream, model), first) and not torch.equal(first, plain)
    assert computed_steps(session.trace) == COMPUTED and len(calls) == 2 * 5 * len(COMPUTED)
    assert 0 < session.peak_cache_bytes <= 2.1 * (3 * FRAMES * 16 * 32 * 4)
    assert (first - plain).norm() < 0.2 * plain.norm()


def test_a_batch_of_two_equals_two_single_calls(upstream, model):
    distances, single, schedules = [], [], []
    for seed in (1, 2):
        with apply_cache(model, AdaCacheConfig({1.0: 1}), STEPS) as session:
            sample(upstream, model, [seed])
        distances.append(session.trace[1].distance)
    config = AdaCacheConfig({sum(distances) / 2: 3, 1e9: 1}, decision="sample")
    for seed in (1, 2):
        with apply_cache(model, config, STEPS) as session:
            single.append(sample(upstream, model, [seed]))
        schedules.append(computed_steps(session.trace))
    with apply_cache(model, config, STEPS) as session:
        together = sample(upstream, model, [1, 2])
    assert [computed_steps(trace) for trace in session.traces] == schedules and schedules[0] != schedules[1]
    torch.testing.assert_close(together, torch.cat(single), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        TeaCacheConfig(threshold=0.3, coefficients=(1.0, 0.0)),
        SeaCacheConfig(threshold=0.3),
        FBCacheConfig(threshold=1e9),
        pytest.param(DiCacheConfig(threshold=9.0, retention=0.3), marks=pytest.mark.slow),
        pytest.param(BWCacheConfig(threshold=9.0), marks=pytest.mark.slow),
        ForecastCacheConfig(computed_steps=5, sensitivity=(2.0, 1.0), corrector=0.5),
        AdaCacheConfig({1e9: 3, 1e10: 1}, cache_loc=(1,)),
    ],
    ids=lambda config: type(config).__name__,
)
def test_other_policies(upstream, model, config):
    plain = sample(upstream, model)
    with apply_cache(model, config, STEPS) as session:
        cached = sample(upstream, model)
        assert torch.equal(sample(upstream, model), cached)
    assert 1 <= len(computed_steps(session.trace)) < STEPS and not torch.equal(cached, plain)


def test_an_exception_leaves_the_next_call_clean(upstream):
    model = make(upstream)
    with apply_cache(model, RATE_3, STEPS):
        expected, calls = sample(upstream, model), []

        def fail(module, inputs):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("lost the device")

        handle = model.single_blocks[1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="lost the device"):
            sample(upstream, model)
        handle.remove()
        assert torch.equal(sample(upstream, model), expected)


def test_the_distilled_model_without_guidance(upstream):
    """DistilledDenoiser makes one call per step, with the guidance as an input; each row is a video."""
    model = make(upstream, guidance_embed=True, cond_embed=False)
    sampling = upstream.sampling
    z = torch.cat([random(seed, 1, 4, FRAMES, SIZE, SIZE) for seed in (1, 2)])
    inputs = sampling.prepare_ids(z, random(3, 2, TEXT, 16), random(4, 2, 8))

    def denoise():
        with torch.no_grad():
            times = sampling.get_schedule(STEPS, SIZE * SIZE // 4, FRAMES)
            return sampling.DistilledDenoiser().denoise(model, **inputs, timesteps=times, guidance=4.0)

    plain = denoise()
    with apply_cache(model, AdaCacheConfig({1.0: 1}, decision="sample"), STEPS) as session:
        assert torch.equal(denoise(), plain) and len(session.traces) == 2
    with apply_cache(model, RATE_3, STEPS) as session:
        assert not torch.equal(denoise(), plain) and computed_steps(session.trace) == COMPUTED


def test_what_is_refused(upstream):
    model = make(upstream)
    for config, message in (
        (AdaCacheConfig({1.0: 1}, granularity="block"), "only granularity='stack' is possible"),
        (AdaCacheConfig({1.0: 1}, cache_res="t-attn"), "over space and time at once: leave cache_res out"),
    ):
        with pytest.raises(ValueError, match=message):
            apply_cache(model, config, STEPS)
    with apply_cache(model, RATE_3, STEPS), pytest.raises(ValueError, match="attached already"):
        apply_cache(model, RATE_3, STEPS)
    model.double_blocks[0].processor = object()
    with pytest.raises(ValueError, match="split over several devices"):
        apply_cache(model, RATE_3, STEPS)
    model.forward = lambda x: x
    with pytest.raises(ValueError, match=r"supports Open-Sora 2\.0, whose MMDiTModel takes .*, got \(x\)"):
        apply_cache(model, RATE_3, STEPS)
