"""The node with the real classes of ComfyUI: models at small size with random weights, patcher, samplers, conditions.

Runs if COMFYUI_PATH names a folder with ComfyUI's source, and scipy is installed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
import warnings
from importlib.machinery import ModuleSpec

import pytest
import torch

from opensora_adacache.adapters.comfyui.attach import attach_comfyui
from opensora_adacache.adapters.comfyui.sampler_calls import SamplerCalls
from opensora_adacache.adapters.patches import CALL
from opensora_adacache.caching.policies.planned import PlannedConfig

pytestmark = pytest.mark.slow

STEPS = 12
TEXT = 8
WAN = {"image_model": "wan2.1", "dim": 32, "ffn_dim": 64, "num_heads": 2, "num_layers": 4, "in_dim": 16, "out_dim": 16}
WAN |= {"text_dim": 16, "freq_dim": 32, "text_len": TEXT}
HUNYUAN = {"image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "patch_size": [1, 2, 2]}
HUNYUAN |= {"vec_in_dim": 16, "context_in_dim": 16, "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2}
HUNYUAN |= {"depth_single_blocks": 3, "axes_dim": [4, 6, 6], "theta": 256, "qkv_bias": True, "guidance_embed": True}
HUNYUAN |= {"byt5": False, "meanflow": False}
LTX = {"image_model": "ltxv", "in_channels": 128, "cross_attention_dim": 32, "attention_head_dim": 16}
LTX |= {"num_attention_heads": 2, "caption_channels": 16, "num_layers": 4}
MOCHI = {"image_model": "mochi_preview", "in_channels": 12, "hidden_size_x": 32, "hidden_size_y": 16, "depth": 4}
MOCHI |= {"num_heads": 2, "mlp_ratio_x": 384, "mlp_ratio_y": 4.0, "use_t5": True, "t5_feat_dim": 16}
MOCHI |= {"t5_token_length": TEXT, "learn_sigma": False, "qk_norm": True, "qkv_bias": False, "out_bias": True}
MOCHI |= {"attn_drop": 0.0, "timestep_scale": 1000.0, "posenc_preserve_area": True}
MODELS = {
    "wan": ("WAN21_T2V", {**WAN, "model_type": "t2v"}),
    "wan-i2v": ("WAN21_I2V", {**WAN, "model_type": "i2v", "in_dim": 36}),
    "wan-camera": ("WAN21_Camera", {**WAN, "model_type": "camera", "in_dim_control_adapter": 6}),
    "wan-vace": ("WAN21_Vace", {**WAN, "model_type": "vace", "vace_layers": 2, "vace_in_dim": 96}),
    "hunyuan": ("HunyuanVideo", HUNYUAN),
    "ltx": ("LTXV", LTX),
    "mochi": ("GenmoMochi", MOCHI),
}
BLOCKS = {"hunyuan": "double_blocks", "ltx": "transformer_blocks"}


class Anything(types.ModuleType):
    """Stands in for a package that ComfyUI imports and these models do not call; has every attribute."""

    __path__: list[str] = []

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


STAND_INS = ("torchvision", "torchvision.transforms", "torchaudio", "torchsde")


@pytest.fixture(scope="module")
def comfy():
    """ComfyUI's package, told to use the CPU."""
    source = os.environ.get("COMFYUI_PATH")
    if not source:
        pytest.skip("COMFYUI_PATH names no folder with the source of ComfyUI")
    pytest.importorskip("scipy")
    before, path, argv = dict(sys.modules), list(sys.path), sys.argv
    missing = [name for name in STAND_INS if importlib.util.find_spec(name.partition(".")[0]) is None]
    sys.modules.update({name: Anything(name) for name in missing})
    sys.path.insert(0, source)
    sys.argv = ["main.py", "--cpu"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("comfy.options").enable_args_parsing()
            for name in ("model_patcher", "sample", "samplers", "supported_models"):
                importlib.import_module(f"comfy.{name}")
        yield sys.modules["comfy"]
    finally:
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in ("comfy", "comfy_extras", "comfy_api", *STAND_INS):
                del sys.modules[name]
        sys.path[:], sys.argv = path, argv


@pytest.fixture(scope="module")
def node(comfy, load_node):
    with load_node() as module:
        yield module.NODE_CLASS_MAPPINGS["OpenSoraAdaCache"]()


def make(comfy, name, dtype=torch.float32):
    """Return a patcher of a model with random weights."""
    kind, config = MODELS[name]
    settings = getattr(comfy.supported_models, kind)(dict(config))
    settings.set_inference_dtype(dtype, None)
    model = settings.get_model({}, "", device=None).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


@pytest.fixture(scope="module")
def patchers(comfy):
    return {name: make(comfy, name) for name in MODELS}


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def patcher(patchers, name):
    return patchers[name]


@pytest.fixture
def wan(patchers):
    return patchers["wan"]


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompt(patcher, seed):
    """Return a condition. ComfyUI's HunyuanVideo takes a mask for a single row only, and Wan none."""
    model = patcher.model.diffusion_model
    width = model.text_embedding[0].in_features if hasattr(model, "text_embedding") else 16
    values = {"pooled_output": random(seed + 1, 1, 16)}
    if type(patcher.model).__name__ in ("LTXV", "GenmoMochi"):
        values["attention_mask"] = torch.ones(1, TEXT).long()
    return [[random(seed, 1, TEXT, width), values]]


@torch.inference_mode()
def sample(comfy, patcher, size=(2, 4, 4), cfg=3.0, steps=STEPS, sampler="euler", **options):
    noise = random(1, 1, patcher.model.latent_format.latent_channels, *size)
    conditions, options = (prompt(patcher, 2), prompt(patcher, 3)), {"seed": 1, "disable_pbar": True, **options}
    sampler = (steps, cfg, sampler, "simple")
    return comfy.sample.sample(patcher, noise, *sampler, *conditions, torch.zeros_like(noise), **options)


def inputs(**changes):
    return {"policy": "ForecastCache", "speedup": 2.0, "tolerance": 0.0, "start": 0.0, "end": 1.0, **changes}


class Count:
    """Counts the runs of a model's first block, by what runs inside it."""

    def __init__(self, name, patcher):
        block = getattr(patcher.model.diffusion_model, BLOCKS.get(name, "blocks"))[0]
        inside = next(module for module in block.modules() if not list(module.children()) and list(module.parameters()))
        self.number = 0
        self.handle = inside.register_forward_hook(self._add)

    def _add(self, *_):
        self.number += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


def plain(patcher):
    """Return whether nothing is left on a model."""
    return not any(CALL in vars(module) for module in patcher.model.modules())


def report(caplog):
    return [record.getMessage() for record in caplog.records if "computed" in record.getMessage()]


@torch.inference_mode()
def test_skipped_blocks_add_what_they_added_to_the_same_input(comfy, patcher, name):
    """Two calls with equal inputs, the second of which skips the blocks, return the same."""
    model, shape = patcher.model.diffusion_model, (1, patcher.model.latent_format.latent_channels, 2, 4, 4)
    cond = prompt(patcher, 2)[0]
    extra = patcher.model.extra_conds(noise=random(1, *shape), cross_attn=cond[0], device="cpu", **cond[1])
    extra = {key: value.cond for key, value in extra.items() if key not in ("c_crossattn", "c_concat")}
    if name in ("wan-i2v", "wan-camera"):
        shape = (1, MODELS[name][1]["in_dim"], *shape[2:])
    calls = SamplerCalls([1.0, 0.5, 0.0], range(2))
    outs = []
    with Count(name, patcher) as count:
        session = attach_comfyui(model, PlannedConfig(steps=(1,)), calls)
        for sigma in (1.0, 0.5):
            options = {"sigmas": torch.tensor([sigma]), "uuids": [7], "cond_or_uncond": [0]}
            out = model(random(1, *shape), torch.tensor([700.0]), context=cond[0], transformer_options=options, **extra)
            outs.append(out)
        session.detach()
        assert count.number == 1
    torch.testing.assert_close(outs[1], outs[0])
    assert outs[0].std() > 0 and plain(patcher)


def test_computing_every_step_changes_no_bit(comfy, node, patcher):
    expected = sample(comfy, patcher)
    (cached,) = node.apply(patcher, **inputs(tolerance=1e-9))
    assert torch.equal(sample(comfy, cached), expected)
    (cached,) = node.apply(patcher, **inputs(policy="AdaCache", tolerance=1e-12))
    assert torch.equal(sample(comfy, cached), expected)
    (cached,) = node.apply(patcher, **inputs(speedup=1.0))
    assert torch.equal(sample(comfy, cached), expected)


def test_steps_runs_and_sizes(comfy, node, patcher, name, caplog):
    caplog.set_level("INFO")
    expected = sample(comfy, patcher)
    (cached,) = node.apply(patcher, **inputs())
    with Count(name, patcher) as count:
        first = sample(comfy, cached)
        assert count.number == STEPS // 2
        assert report(caplog)[-1:] == [f"ForecastCache: uncond+cond computed 6 of {STEPS} steps"]
        assert not torch.equal(first, expected) and first.isfinite().all()
        larger = sample(comfy, cached, size=(3, 4, 8))
        assert torch.equal(sample(comfy, cached), first)  # clean after another size
    assert plain(patcher) and torch.equal(sample(comfy, patcher), expected)
    (again,) = node.apply(patcher, **inputs())
    assert torch.equal(sample(comfy, again, size=(3, 4, 8)), larger)


def test_bfloat16(comfy, node):
    patcher = make(comfy, "wan", torch.bfloat16)
    (cached,) = node.apply(patcher, **inputs(tolerance=1e-9))
    assert torch.equal(sample(comfy, cached), sample(comfy, patcher))
    (cached,) = node.apply(patcher, **inputs())
    with Count("wan", patcher) as count:
        assert sample(comfy, cached).isfinite().all()
    assert count.number == STEPS // 2


def test_a_checkpoint_that_comfyui_loads(comfy, node):
    """ComfyUI recognises the weights, which it expects to have heads of 128 channels, and makes patcher and model."""
    config = {**WAN, "model_type": "t2v", "dim": 128, "num_heads": 1, "text_dim": 4096, "freq_dim": 256}
    settings = comfy.supported_models.WAN21_T2V(config)
    settings.set_inference_dtype(torch.float32, None)
    weights = settings.get_model({}, "", device=None).diffusion_model.state_dict()
    generator = torch.Generator().manual_seed(0)
    weights = {name: 0.1 * torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
    patcher = importlib.import_module("comfy.sd").load_diffusion_model_state_dict(weights)
    (cached,) = node.apply(patcher, **inputs())
    with Count("wan", patcher) as count:
        assert sample(comfy, cached).isfinite().all()
    assert count.number == STEPS // 2


def test_adacache_measures_at_its_probe(comfy, node, patcher, name):
    (cached,) = node.apply(patcher, **inputs(policy="AdaCache", tolerance=1e9))
    with Count(name, patcher) as count:
        sample(comfy, cached)
    assert count.number == 5  # 1, 2, 8, 11 and 12: the codebook's longest interval is six steps


def test_conditions_in_calls_of_their_own(comfy, node, patcher, name, caplog, monkeypatch):
    caplog.set_level("INFO")
    (cached,) = node.apply(patcher, **inputs())
    monkeypatch.setattr(patcher.model, "memory_required", lambda *args, **kwargs: 1e18)
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *args, **kwargs: None)
    with Count(name, patcher) as count:
        sample(comfy, cached)
    assert count.number == STEPS
    assert report(caplog) == [f"ForecastCache: {branch} computed 6 of {STEPS} steps" for branch in ("uncond", "cond")]


def test_memory_that_runs_short_during_a_run(comfy, node, wan, caplog, monkeypatch):
    """ComfyUI then calls the model for each condition, which is a branch that starts anew."""
    caplog.set_level("INFO")
    (cached,) = node.apply(wan, **inputs())
    steps = []
    monkeypatch.setattr(wan.model, "memory_required", lambda *args, **kwargs: 1e18 * (len(steps) > 5))
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *args, **kwargs: None)
    assert sample(comfy, cached, callback=lambda *args: steps.append(args)).isfinite().all()
    ran = [(line.split()[1], line.partition(" of ")[2]) for line in report(caplog)]
    assert ran == [("uncond+cond", "6 steps"), ("uncond", "6 steps"), ("cond", "6 steps")]


def test_window(comfy, node, wan, caplog):
    caplog.set_level("INFO")
    (cached,) = node.apply(wan, **inputs(speedup=2.0, start=0.25, end=0.92, verbose=True))
    with Count("wan", wan) as count:
        sample(comfy, cached)
    assert count.number == STEPS - 4  # 8 steps are cached, of which 4 compute
    done = "ForecastCache: uncond+cond computed 4 of 8 steps, and all 4 outside of start and end: ████····"
    assert report(caplog) == [done]
    (cached,) = node.apply(wan, **inputs(start=0.5, end=0.51))
    assert torch.equal(sample(comfy, cached), sample(comfy, wan))


def test_part_of_a_run(comfy, node, wan):
    """KSampler (Advanced) with some of the steps is a run of its own."""
    (cached,) = node.apply(wan, **inputs())
    with Count("wan", wan) as count:
        sample(comfy, cached, start_step=2, last_step=10)
    assert count.number == 4


def test_an_interrupted_run_leaves_the_next_one_clean(comfy, node, wan):
    (cached,) = node.apply(wan, **inputs())
    expected = sample(comfy, cached)

    def interrupt(step, *_):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(comfy, cached, callback=interrupt)
    assert plain(wan) and torch.equal(sample(comfy, cached), expected)


def test_the_input_of_the_node_stays_as_it_is(comfy, node, wan):
    before = {key: dict(value) for key, value in wan.wrappers.items()}
    (one,) = node.apply(wan, **inputs())
    (two,) = node.apply(one, **inputs(speedup=3.0))
    assert wan.wrappers == before and one is not wan
    assert [len(model.get_all_wrappers("sampler_sample")) for model in (wan, one, two)] == [0, 1, 1]
    with Count("wan", wan) as count:
        sample(comfy, two)
    assert count.number == STEPS // 3  # the later node counts


def test_guidance_that_skips_layers_is_a_branch(comfy, node, wan, caplog):
    caplog.set_level("INFO")
    (cached,) = node.apply(wan, **inputs())
    slg = importlib.import_module("comfy_extras.nodes_slg").SkipLayerGuidanceDiT
    with_slg = slg.execute(cached, 3.0, 0.0, 1.0, double_layers="1", single_layers="")[0]
    assert sample(comfy, with_slg).isfinite().all()
    names = ("uncond+cond", "cond")
    assert report(caplog) == [f"ForecastCache: {branch} computed 6 of {STEPS} steps" for branch in names]


SAMPLERS = """euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms dpm_fast
dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde
dpmpp_2m_sde_heun dpmpp_3m_sde ddpm lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral
res_multistep_ancestral_cfg_pp gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver
sa_solver_pece ddim uni_pc uni_pc_bh2""".split()


def test_no_sampler_is_left_out(comfy):
    assert {name.removesuffix("_gpu") for name in comfy.samplers.SAMPLER_NAMES} == set(SAMPLERS)


# what samplers do with numpy, torch and torchsde
@pytest.mark.filterwarnings("ignore:__array_wrap__", "ignore:To copy construct", "ignore:Should have ta>=t0")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(comfy, node, wan, caplog, monkeypatch, sampler):
    """Counting evaluations finds the same steps as reading the noise level of each."""
    if sampler.startswith("dpmpp") and "sde" in sampler and isinstance(sys.modules["torchsde"], Anything):
        pytest.skip("torchsde is not installed")
    caplog.set_level("INFO")
    (cached,) = node.apply(wan, **inputs())
    counted = sample(comfy, cached, sampler=sampler)
    reported = report(caplog)
    monkeypatch.setattr("opensora_adacache.adapters.comfyui.sampler_calls.NUM_READ", 1000)
    assert torch.equal(sample(comfy, cached, sampler=sampler), counted)
    assert report(caplog) == 2 * reported
    assert counted.isfinite().all()
    computed = [int(line.partition("computed ")[2].partition(" ")[0]) for line in reported]
    assert max(computed) <= STEPS and min(computed) < STEPS


@pytest.mark.parametrize("change", ["compile", "easycache", "windows"])
def test_nodes_that_do_not_go_together(comfy, node, wan, change):
    (cached,) = node.apply(wan, **inputs())
    if change == "compile":
        cached.add_wrapper_with_key("apply_model", "torch.compile", lambda executor, *args: executor(*args))
    elif change == "easycache":
        easycache = importlib.import_module("comfy_extras.nodes_easycache").EasyCacheNode
        cached = easycache.execute(cached, 0.2, 0.15, 0.95, False)[0]
    else:
        cached.model_options["context_handler"] = object()
    message = {"compile": "a torch.compile node", "easycache": "EasyCache or LazyCache", "windows": "context windows"}
    with pytest.raises(ValueError, match=message[change]):
        sample(comfy, cached)
    assert plain(wan)


def test_models_that_are_not_served(comfy, node, wan):
    humo = comfy.ldm.wan.model.HumoWanModel
    other = wan.clone()
    other.add_object_patch("diffusion_model", humo.__new__(humo))
    with pytest.raises(ValueError, match=r"the cache knows ComfyUI's Wan, .* got a HumoWanModel: leave the cache out"):
        node.apply(other, **inputs())
