"""The upstream opensora package, 1.2.0: the same schedules and latents as with our STDiT3, on the recorded runs.

Runs if `opensora` can be imported or OPENSORA_SRC names a folder with its source at v1.2.0; skipped otherwise. xformers
has no attention kernel for the CPU, so there torch computes its call with the mask of the package.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.policies.bwcache import BWCacheConfig
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.easycache import EasyCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.caching.policies.seacache import SeaCacheConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.models import STDiT3

DATA = Path(__file__).parents[1] / "data"
RUNS = json.loads((DATA / "sampling_runs.json").read_text())
VECTORS = load_file(DATA / "sampling_runs.safetensors")
NAMES = ["baseline", "mid", "fast", "moreg_fast", "mid_b2"]


@pytest.fixture(scope="module")
def upstream():
    """The module that defines upstream's STDiT3."""
    if source := os.environ.get("OPENSORA_SRC"):
        sys.path.insert(0, source)
    elif importlib.util.find_spec("opensora") is None:
        pytest.skip("the opensora package is not installed, and OPENSORA_SRC names no source folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("opensora.models.stdit.stdit3")
        importlib.import_module("opensora.schedulers")
    if not torch.cuda.is_available():
        import xformers.ops

        def attention(q, k, v, p=0.0, attn_bias=None):
            q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
            bias = None if attn_bias is None else attn_bias.materialize((q.shape[2], k.shape[2]), dtype=q.dtype)
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)

        xformers.ops.memory_efficient_attention = attention
    return module


@pytest.fixture
def model(upstream):
    """Upstream's STDiT3 with the weights of the recorded runs."""
    config = json.loads((DATA / "stdit3_config.json").read_text())
    model = upstream.STDiT3(upstream.STDiT3Config(**config)).eval()
    missing, unexpected = model.load_state_dict(load_file(DATA / "stdit3_weights.safetensors"), strict=False)
    assert not unexpected and not [name for name in missing if "inv_freq" not in name and "rope" not in name]
    return model


def sample(model, name, rows=slice(None)):
    """Repeat a recorded run with upstream's sampler."""
    from opensora.schedulers import RFLOW

    run = RUNS[name]
    z, y, mask = (VECTORS[f"{name}.{key}"][rows] for key in ("z", "y", "text_mask"))
    null = model.y_embedder.y_embedding
    text = types.SimpleNamespace(
        encode=lambda prompts: {"y": y, "mask": mask}, null=lambda n: null[None, None].expand(n, 1, -1, -1)
    )
    size = {key: torch.full((len(z),), float(run[key])) for key in ("height", "width", "num_frames", "fps")}
    with torch.no_grad():
        return RFLOW(run["steps"], cfg_scale=run["cfg_scale"], use_timestep_transform=True).sample(
            model, text, z, ["prompt"] * len(z), "cpu", size
        )


def config_of(name, **changes):
    from opensora_adacache import MoRegConfig

    cache, moreg = RUNS[name]["cache"], None
    if cache.get("apply_moreg"):
        center, power, divisor, _ = cache["moreg_hyp"]
        moreg = MoRegConfig(cache["moreg_strides"], cache["moreg_steps"], center, power, divisor, cache["mograd_mul"])
    codebook = dict(map(tuple, cache["codebook"]))
    return AdaCacheConfig(codebook, cache["cache_res"], cache["cache_loc"], moreg, **changes)


@pytest.mark.parametrize("name", [name for name in NAMES if name in RUNS])
def test_schedules_and_latents_are_those_of_our_model(model, name):
    if not RUNS[name]["cache"]:
        latents = sample(model, name)
    else:
        with apply_cache(model, config_of(name), RUNS[name]["steps"]) as session:
            latents = sample(model, name)
        assert computed_steps(session.trace) == RUNS[name]["computed_steps"]
    torch.testing.assert_close(latents, VECTORS[f"{name}.latents"], atol=1e-4, rtol=0)


def test_a_codebook_of_ones_is_bit_identical_and_detaching_leaves_nothing(model):
    plain, before = sample(model, "mid"), [set(vars(module)) for module in model.modules()]
    session = apply_cache(model, AdaCacheConfig({1.0: 1}), 30)
    assert torch.equal(sample(model, "mid"), plain)
    session.detach()
    assert [set(vars(module)) for module in model.modules()] == before


def test_per_video_decisions_equal_single_runs(model):
    config = config_of("mid_b2", decision="sample")
    with apply_cache(model, config, 30) as session:
        together = sample(model, "mid_b2")
        schedules = [computed_steps(trace) for trace in session.traces]
        for row in (0, 1):
            single = sample(model, "mid_b2", [row])
            assert computed_steps(session.trace) == schedules[row]
            torch.testing.assert_close(together[row : row + 1], single, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        TeaCacheConfig(threshold=0.05, coefficients=(1.0, 0.0)),
        SeaCacheConfig(threshold=0.1),
        FBCacheConfig(threshold=0.12),
        EasyCacheConfig(threshold=0.2),
        pytest.param(DiCacheConfig(threshold=0.3), marks=pytest.mark.slow),
        pytest.param(BWCacheConfig(threshold=0.2), marks=pytest.mark.slow),
        ForecastCacheConfig(speedup=2, corrector=0.5, sensitivity=(2.0, 0.5), decision="sample"),
    ],
)
def test_other_policies_see_what_they_see_on_our_model(model, golden_model, config):
    found = []
    for each in (model, golden_model):
        with apply_cache(each, config, 30) as session:
            found.append((sample(each, "mid"), computed_steps(session.trace)))
    (theirs, schedule), (ours, expected) = found
    assert schedule == expected and len(expected) < 30
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)


def test_another_version_is_refused(model, upstream):
    class Later(upstream.STDiT3):
        def forward(self, x, timestep, y, guidance=None):
            return x

    model.__class__ = Later
    with pytest.raises(ValueError, match=r"supports opensora 1\.2\.0, whose Later.forward takes"):
        apply_cache(model, AdaCacheConfig({1.0: 1}), 30)


@pytest.fixture
def registry(upstream):
    """Upstream's registry, restored afterwards."""
    from opensora.registry import MODELS

    from opensora_adacache.adapters.opensora import registry as ours

    MODELS.import_from_location()
    before = dict(MODELS._module_dict)
    yield ours
    MODELS._module_dict.clear()
    MODELS._module_dict.update(before)


def test_ours_under_upstreams_names(registry):
    from opensora.registry import MODELS, build_module

    registry.register(PlannedConfig(steps=(1, 2, 29, 30)), 30)
    config = {**json.loads((DATA / "stdit3_config.json").read_text()), "type": "STDiT3-XL/2"}
    ours = build_module(config, MODELS, enable_sequence_parallelism=False)
    assert isinstance(ours, STDiT3)
    ours.load_state_dict(load_file(DATA / "stdit3_weights.safetensors"))
    calls = []
    ours.temporal_blocks[0].mlp.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    assert sample(ours.eval(), "mid").isfinite().all() and len(calls) == 4
    with pytest.raises(ValueError, match="expects num_sampling_steps with a cache"):
        registry.register(PlannedConfig(steps=(1,)))


@pytest.mark.filterwarnings("ignore")
def test_upstreams_own_script_runs_our_config(registry, tiny_config, tmp_path, monkeypatch):
    """Upstream's scripts/inference.py runs on our small checkpoints with the config's cache."""
    source = os.environ.get("OPENSORA_SRC")
    if not source:
        pytest.skip("upstream's scripts are no part of its package: OPENSORA_SRC must name its source")
    config = tmp_path / "config.py"
    cache = 'cache = dict(type="Static", interval=4)\n'
    prompt = f'prompt = ["a red circle"]\nnum_frames = 1\nmulti_resolution = "STDiT2"\nsave_dir = "{tmp_path}/out"\n'
    config.write_text(tiny_config.replace("num_frames = 17\n", "") + prompt + cache)
    calls = []
    monkeypatch.setattr(
        registry,
        "build_transformer",
        lambda **settings: _counted(STDiT3.from_pretrained(settings["from_pretrained"]), calls),
    )
    monkeypatch.setattr(sys, "argv", sys.argv)
    command = runpy.run_path(str(DATA.parents[1] / "scripts" / "upstream_inference.py"))["main"]
    assert command([source, str(config)]) == 0
    assert len(calls) == 3  # steps 1, 5 and 8 of 8
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_folder_that_is_no_source(tmp_path, capsys):
    command = runpy.run_path(str(DATA.parents[1] / "scripts" / "upstream_inference.py"))["main"]
    assert command([str(tmp_path), "config.py"]) == 2
    assert (
        capsys.readouterr().err
        == f"error: '{tmp_path}' has no scripts/inference.py; pass a source tree of Open-Sora v1.2.0\n"
    )


def _counted(model, calls):
    model.temporal_blocks[0].mlp.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    return model


def test_rows_are_left_out_as_with_our_model(model, golden_model):
    """Two prompts of different lengths, whose mask has a row for each video and not for each branch."""
    config = replace(config_of("mid_b2", decision="sample"), guidance_reuse=GuidanceReuse())
    found = []
    for each in (model, golden_model):
        with apply_cache(each, config, RUNS["mid_b2"]["steps"]) as session:
            latents = sample(each, "mid_b2")
        steps = [[(record.computed, record.rebuilt, record.rows_computed) for record in t] for t in session.traces]
        found.append((latents, steps))
    assert found[0][1] == found[1][1] and any(rebuilt for trace in found[0][1] for _, rebuilt, _ in trace)
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=0)
