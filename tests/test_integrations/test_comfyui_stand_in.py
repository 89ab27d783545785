"""The node without ComfyUI: its wrapper interface and a transformer with the names of its HunyuanVideo are stand-ins.

`test_comfyui.py` has the real classes.
"""

from __future__ import annotations

import json
import sys
import types
from functools import partial

import pytest
import torch
from torch import nn

from opensora_adacache.adapters.comfyui.models import MODELS
from opensora_adacache.adapters.comfyui.sampler_calls import MOST_CALLS, SamplerCalls
from opensora_adacache.adapters.patches import CALL

STEPS, WIDTH, TEXT = 12, 8, 3
SIGMAS = torch.linspace(1, 0, STEPS + 1)


class DoubleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.img_attn, self.img_norm2, self.img_mlp = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 8)

    def forward(self, img, txt, vec):
        img = img + self.img_attn(img) + txt.mean(1, keepdim=True) + vec
        txt += 0.1 * img.mean(1, keepdim=True)
        return img + self.img_mlp(self.img_norm2(img)), txt


class SingleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, vec):
        x += self.linear(x) + x.mean(1, keepdim=True) + vec
        return x


class HunyuanVideo(nn.Module):
    """Two streams, then one sequence with the text last, in which the blocks write."""

    def __init__(self):
        super().__init__()
        self.img_in, self.out = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 4)
        self.double_blocks = nn.ModuleList(DoubleBlock() for _ in range(2))
        self.single_blocks = nn.ModuleList(SingleBlock() for _ in range(2))

    def forward(self, x, timestep, context, transformer_options={}, **kwargs):  # noqa: B006
        img, txt, vec = self.img_in(x.flatten(2).transpose(1, 2)), context.clone(), timestep[:, None, None] / 1000
        for block in self.double_blocks:
            img, txt = block(img=img, txt=txt, vec=vec)
        joined = torch.cat([img, txt], 1)
        for block in self.single_blocks:
            joined = block(joined, vec=vec)
        return self.out(joined[:, : img.shape[1]]).transpose(1, 2).view_as(x)


HunyuanVideo.__module__ = "comfy.ldm.hunyuan_video.model"


class Patcher:
    """What the node asks of ComfyUI's ModelPatcher."""

    def __init__(self, model, wrappers=None):
        self.model = model
        self.wrappers = wrappers or {}

    def clone(self):
        return Patcher(self.model, {kind: {**by_key} for kind, by_key in self.wrappers.items()})

    def get_model_object(self, name):
        return getattr(self.model, name)

    def add_wrapper_with_key(self, kind, key, wrapper):
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def remove_wrappers_with_key(self, kind, key):
        self.wrappers.get(kind, {}).pop(key, None)


class Base:
    def __init__(self, diffusion_model):
        self.diffusion_model = diffusion_model


@pytest.fixture(scope="module")
def node(load_node):
    before = {name: sys.modules.get(name) for name in ("comfy", "comfy.patcher_extension")}
    sys.modules["comfy"] = types.ModuleType("comfy")
    sys.modules["comfy.patcher_extension"] = extension = types.ModuleType("comfy.patcher_extension")
    extension.WrappersMP = type("WrappersMP", (), {"SAMPLER_SAMPLE": "sampler_sample"})
    try:
        with load_node() as module:
            yield module.NODE_CLASS_MAPPINGS["OpenSoraAdaCache"]()
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


@pytest.fixture(scope="module")
def patcher():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Patcher(Base(HunyuanVideo().requires_grad_(False)))


def inputs(**changes):
    return {"policy": "ForecastCache", "speedup": 2.0, "tolerance": 0.0, "start": 0.0, "end": 1.0, **changes}


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sample(patcher, size=(2, 2, 2), in_batch=True, options=None, sigmas=SIGMAS):
    """Denoise as ComfyUI does: Euler steps, two conditions in one call or in two, through the wrappers."""
    model, texts = patcher.model.diffusion_model, random(2, 2, TEXT, WIDTH)

    def denoise(guider, sigmas, extra_args):
        x = random(1, 1, 4, *size)
        for sigma, later in zip(sigmas, sigmas[1:], strict=False):
            noise_level, outs = sigma[None].clone(), []
            for rows in [(0, 1)] if in_batch else [(0,), (1,)]:
                given = {"sigmas": noise_level, "uuids": [f"id {row}" for row in rows], "cond_or_uncond": list(rows)}
                t = 1000 * noise_level.expand(len(rows))
                outs.append(model(torch.cat([x] * len(rows)), t, context=texts[list(rows)], transformer_options=given))
            cond, uncond = torch.cat(outs)
            x = x + (later - sigma) * (uncond + 3 * (cond - uncond))
        return x

    for wrappers in patcher.wrappers.get("sampler_sample", {}).values():
        for wrapper in wrappers:
            denoise = partial(wrapper, denoise)
    guider = types.SimpleNamespace(inner_model=patcher.model)
    return denoise(guider, sigmas, {"model_options": options or {}})


class Count:
    def __init__(self, patcher):
        self.number = 0
        self.handle = patcher.model.diffusion_model.double_blocks[0].img_attn.register_forward_hook(self._add)

    def _add(self, *_):
        self.number += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


def plain(patcher):
    return not any(CALL in vars(module) for module in patcher.model.diffusion_model.modules())


def test_inputs_say_that_nothing_was_calibrated(node):
    kinds = node.INPUT_TYPES()
    assert list(kinds["required"]) == ["model", "policy", "speedup", "tolerance", "start", "end"]
    for name in ("policy", "speedup"):
        assert "were not measured for your model" in kinds["required"][name][1]["tooltip"]
    assert node.RETURN_TYPES == ("MODEL",) and hasattr(node, node.FUNCTION)


def test_computing_every_step_changes_no_bit(node, patcher):
    expected = sample(patcher)
    for changes in ({"tolerance": 1e-9}, {"policy": "AdaCache", "tolerance": 1e-12}, {"speedup": 1.0}):
        (cached,) = node.apply(patcher, **inputs(**changes))
        assert torch.equal(sample(cached), expected)


@pytest.mark.parametrize("in_batch", [True, False])
def test_steps_runs_and_sizes(node, patcher, caplog, in_batch):
    caplog.set_level("INFO")
    expected = sample(patcher, in_batch=in_batch)
    (cached,) = node.apply(patcher, **inputs())
    with Count(patcher) as count:
        first = sample(cached, in_batch=in_batch)
    names = ["cond+uncond"] if in_batch else ["cond", "uncond"]
    assert count.number == 6 * len(names)
    origin, *done = [record.getMessage() for record in caplog.records]
    assert origin.startswith("ForecastCache on HunyuanVideo: not calibrated for this model, so compare a video")
    assert done == [f"ForecastCache: {name} computed 6 of 12 steps" for name in names]
    assert not torch.equal(first, expected)
    sample(cached, (3, 2, 4), in_batch)
    assert torch.equal(sample(cached, in_batch=in_batch), first)  # clean after another size
    assert plain(patcher) and torch.equal(sample(patcher, in_batch=in_batch), expected)
    assert not patcher.wrappers.get("sampler_sample")


def test_reuse_is_entry_plus_residual(node, patcher):
    """AdaCache's longest interval against a loop by hand: residual of both streams' video tokens, text left out."""
    model = patcher.model.diffusion_model
    (cached,) = node.apply(patcher, **inputs(policy="AdaCache", tolerance=1e9))
    texts, x, residual = random(2, 2, TEXT, WIDTH), random(1, 1, 4, 2, 2, 2), None
    for step, (sigma, later) in enumerate(zip(SIGMAS, SIGMAS[1:], strict=False), start=1):
        rows = torch.cat([x, x])
        entry = model.img_in(rows.flatten(2).transpose(1, 2))
        if step in (1, 2, 8, 11, 12):  # the codebook's longest interval is six steps
            img, txt, vec = entry.clone(), texts.clone(), sigma.expand(2)[:, None, None]
            for block in model.double_blocks:
                img, txt = block(img=img, txt=txt, vec=vec)
            joined = torch.cat([img, txt], 1)
            for block in model.single_blocks:
                joined = block(joined, vec=vec)
            residual = joined[:, :-TEXT] - entry
        cond, uncond = model.out(entry + residual).transpose(1, 2).view_as(rows)
        x = x + (later - sigma) * (uncond + 3 * (cond - uncond))
    torch.testing.assert_close(sample(cached), x)


def test_window(node, patcher, caplog):
    caplog.set_level("INFO")
    (cached,) = node.apply(patcher, **inputs(start=0.25, end=0.92, verbose=True))
    with Count(patcher) as count:
        sample(cached)
    assert count.number == 8  # four steps outside of the window, and half of the eight within it
    done = "ForecastCache: cond+uncond computed 4 of 8 steps, and all 4 outside of start and end: ████····"
    assert caplog.records[-1].getMessage() == done
    (cached,) = node.apply(patcher, **inputs(start=0.5, end=0.51))
    assert torch.equal(sample(cached), sample(patcher))


def test_a_later_node_replaces_an_earlier_one(node, patcher):
    (one,) = node.apply(patcher, **inputs())
    (two,) = node.apply(one, **inputs(speedup=3.0))
    (three,) = node.apply(two, **inputs(speedup=1.0))
    numbers = []
    for cached in (one, two, three):
        with Count(patcher) as count:
            sample(cached)
        numbers.append(count.number)
    assert numbers == [6, 4, 12]


def test_settings_of_a_calibration(node, patcher, calibrations, caplog):
    caplog.set_level("INFO")
    (cached,) = node.apply(patcher, **inputs(calibration="me/My-Hunyuan "))
    with pytest.raises(ValueError, match="no ForecastCache settings of 'me/My-Hunyuan' for speedup 2: run python "):
        sample(cached)
    section = {"type": "ForecastCache", "corrector": 0.5, "sensitivity": [3.0, 1.0], "growth": [2.0, 1.0]}
    found = {"section": section, "date": "2026-01-01", "command": "calibrate"}
    file = {"version": 1, "model": "me/My-Hunyuan", "num_steps": STEPS, "digest": "0a", "settings": {"one": found}}
    calibrations.mkdir(parents=True)
    (calibrations / "one.json").write_text(json.dumps(file))
    sample(cached)
    assert caplog.records[-2].getMessage() == "ForecastCache on HunyuanVideo: calibrated for me/My-Hunyuan"
    assert caplog.records[-1].getMessage().endswith("computed 6 of 12 steps")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "Other"}, "policy must be one of ForecastCache, AdaCache, got 'Other'"),
        ({"speedup": 0.5}, "speedup must be at least 1 and tolerance at least 0, got 0.5"),
        ({"start": 0.6, "end": 0.5}, "0 <= start < end <= 1, got 0.6, 0.5"),
        ({"policy": "AdaCache"}, "AdaCache needs either a tolerance or a calibration, .* got neither"),
        ({"policy": "AdaCache", "tolerance": 0.1, "calibration": "a"}, "got both"),
    ],
)
def test_inputs_that_do_not_fit(node, patcher, changes, message):
    with pytest.raises(ValueError, match=message):
        node.apply(patcher, **inputs(**changes))


def test_mochi_takes_no_calibrated_codebook(node):
    mochi = type("AsymmDiTJoint", (nn.Module,), {"__module__": "comfy.ldm.genmo.joint_model.asymm_models_joint"})
    with pytest.raises(ValueError, match="AdaCache measures whole blocks of this model in ComfyUI"):
        node.apply(Patcher(Base(mochi())), **inputs(policy="AdaCache", calibration="genmo/mochi-1-preview"))


def test_a_speedup_that_the_steps_do_not_allow(node, patcher):
    (cached,) = node.apply(patcher, **inputs(speedup=6.0))
    with pytest.raises(ValueError, match="a run of 12 steps can compute 4 to 12 of them, got a budget of 2"):
        sample(cached)
    assert plain(patcher)


def test_models_that_are_not_served(node):
    with pytest.raises(ValueError, match=r"the cache knows ComfyUI's Wan, .*, got a Linear: leave the cache out"):
        node.apply(Patcher(Base(nn.Linear(2, 2))), **inputs())
    vace = type("VaceWanModel", (nn.Module,), {"__module__": "comfy.ldm.wan.model"})()
    vace.blocks, vace.vace_layers_mapping = nn.ModuleList([nn.Linear(2, 2)] * 2), {0: 0, 1: 1}
    with pytest.raises(ValueError, match="a control block runs after its last block"):
        node.apply(Patcher(Base(vace)), **inputs())
    assert all(name.startswith("comfy.ldm.") for name in MODELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transformer_options": {"wrappers": {"apply_model": {"torch.compile": [0]}}}}, "a torch.compile node"),
        ({"transformer_options": {"easycache": 0}}, "EasyCache or LazyCache"),
        ({"context_handler": 0}, "context windows give the model other frames"),
    ],
)
def test_nodes_that_do_not_go_together(node, patcher, options, message):
    (cached,) = node.apply(patcher, **inputs())
    with pytest.raises(ValueError, match=message):
        sample(cached, options=options)
    assert plain(patcher)


def test_a_model_that_is_occupied(node, patcher):
    (cached,) = node.apply(patcher, **inputs())
    model = patcher.model.diffusion_model
    model.__dict__[CALL] = model._call_impl
    try:
        with pytest.raises(ValueError, match="this model has a cache attached already, or is compiled"):
            sample(cached)
    finally:
        del model.__dict__[CALL]


def test_an_interrupted_run_leaves_the_next_one_clean(node, patcher):
    (cached,) = node.apply(patcher, **inputs())
    expected, numbers = sample(cached), []

    def interrupt(*_):
        numbers.append(len(numbers))
        if len(numbers) == 5:
            raise KeyboardInterrupt

    handle = patcher.model.diffusion_model.out.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        sample(cached)
    handle.remove()
    assert plain(patcher) and torch.equal(sample(cached), expected)


def evaluate(calls, sigma, *conditions):
    """Return the branches of the calls of one evaluation; each condition is a call."""
    sigma = torch.tensor([sigma])
    return [
        calls.branch_of({"sigmas": sigma, "uuids": list(ids), "cond_or_uncond": [int(one == "n") for one in ids]})
        for ids in conditions
    ]


def test_branches_of_samplers():
    sigmas = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    calls = SamplerCalls(sigmas, range(1, 5))
    assert [evaluate(calls, sigma, "np") for sigma in sigmas[:5]] == [[None], *[["uncond+cond"]] * 4]
    calls = SamplerCalls(sigmas, range(5))  # skip-layer guidance calls a second time with the condition alone
    assert [evaluate(calls, sigma, "p", "n", "p") for sigma in sigmas[:3]] == [["cond", "uncond", "cond 2"]] * 3
    calls = SamplerCalls(sigmas, range(5))  # Heun's method evaluates at the end of each step, and again at the next
    found = [evaluate(calls, sigma, "p")[0] for sigma in (1.0, 0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2, 0.2)]
    assert found == ["cond", "cond", "cond 2", "cond", "cond 2", "cond", "cond 2", "cond", "cond 2"]
    calls = SamplerCalls(sigmas, range(5))
    assert [evaluate(calls, 0.9, "p")[0] for _ in range(MOST_CALLS + 1)][-2:] == ["cond 4", None]


def test_noise_levels_are_read_only_at_first():
    class Unread:
        """A noise level that nobody may read."""

    calls = SamplerCalls([1.0, 0.8, 0.6, 0.4, 0.2, 0.0], range(3, 5))
    for sigma in (1.0, 0.8, 0.6, 0.4):
        found = evaluate(calls, sigma, "p")
    assert found == ["cond"]
    assert calls.branch_of({"sigmas": Unread(), "uuids": ["p"], "cond_or_uncond": [0]}) == "cond"
