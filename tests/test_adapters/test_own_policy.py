"""A policy that the package does not know runs wherever an adapter can serve it; otherwise it is refused first."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from opensora_adacache import AdaCacheConfig, CacheConfig, CachePolicy, apply_cache
from opensora_adacache.caching.contract import Probe
from opensora_adacache.caching.distance import change_sums
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.schedulers import RFLOW

STEPS = 6


class Curious(CachePolicy):
    """Computes odd steps and reads everything that a view provides."""

    def __init__(self, groups, seen):
        super().__init__(groups)
        self.seen = seen

    def decide(self, view):
        modulated, noise = view.modulated_input(), view.timestep / 1000
        assert modulated.shape == view.x.shape and 0 <= float(noise[0]) <= 1
        assert view.time == float(view.timestep[0])  # known without waiting, on a CPU
        assert view.num_frames * view.frame_size[0] * view.frame_size[1] == view.x.shape[1]
        if "modulated input" in view.store:
            self.seen.append(float(change_sums(view.store.get("modulated input"), modulated)[0, 0]))
        view.store.put("modulated input", modulated)
        return [view.step % 2 == 1 or view.step == STEPS] * len(self.groups)


@dataclass(frozen=True)
class CuriousConfig(CacheConfig):
    """Needs frames, the modulated input and the noise level."""

    seen: list = field(default_factory=list)
    reads_frames = reads_modulated_input = reads_noise_level = True

    def build(self, num_sampling_steps, groups):
        return Curious(groups, self.seen)


@dataclass(frozen=True)
class CautiousConfig(AdaCacheConfig):
    """A subclass of one of our configs."""

    margin: float = 0.1


class Text:
    """Random text features."""

    def __init__(self, model):
        self.model = model

    def encode(self, prompts):
        return {"y": torch.randn(1, 1, 12, 32, generator=torch.Generator().manual_seed(1))}

    def null(self, n):
        return self.model.y_embedder.y_embedding[None, None].expand(n, 1, -1, -1)


def sample(model):
    z = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    size = {"height": torch.full((1,), 64.0), "width": torch.full((1,), 64.0), "fps": torch.full((1,), 8.0)}
    sampler = RFLOW(STEPS, cfg_scale=4.0, use_timestep_transform=False)
    return sampler.sample(model, Text(model), z, ["prompt"], "cpu", size)


def test_on_stdit3(golden_model):
    config = CuriousConfig()
    with apply_cache(golden_model, config, STEPS) as session:
        cached = sample(golden_model)
    assert computed_steps(session.trace) == [1, 3, 5, 6] and len(config.seen) == STEPS - 1
    assert all(change > 0 for change in config.seen) and not torch.equal(cached, sample(golden_model))


def test_a_subclass_of_ours(golden_model):
    ours, theirs = AdaCacheConfig({1e9: 2}), CautiousConfig({1e9: 2}, margin=0.5)
    results = []
    for config in (ours, theirs):
        with apply_cache(golden_model, config, STEPS):
            results.append(sample(golden_model))
    assert torch.equal(*results)


def test_on_a_model_of_diffusers(tiny_models):
    tiny = tiny_models["wan-2.1"]
    model, config = tiny.make(), CuriousConfig()
    with apply_cache(model, config, STEPS) as session:
        tiny.sample(model, steps=STEPS)
    traces = [branch.trace for branch in session.branches.values()]
    assert [computed_steps(trace) for trace in traces] == [[1, 3, 5, 6]] * len(traces)
    assert len(config.seen) == len(traces) * (STEPS - 1)


@dataclass(frozen=True)
class GivenConfig(CacheConfig):
    """Decides what it is told to."""

    decisions: dict = field(default_factory=dict)

    def build(self, num_sampling_steps, groups):
        policy = CautiousPolicy(groups)
        policy.decide = lambda view: self.decisions[view.step]
        return policy


class CautiousPolicy(CachePolicy):
    """Computes every step."""

    def decide(self, view):
        return [True] * len(self.groups)


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ({1: [True, False]}, r"returned \[True, False\] at step 1, where there is nothing to reuse: return True there"),
        ({1: [True, True], 2: [False]}, r"a list with a bool for each of the 2 groups, got \[False\]"),
        ({1: [True, True], 2: True}, "a list with a bool for each of the 2 groups, got True"),
    ],
)
def test_decisions_that_cannot_be_followed(tiny_models, decisions, message):
    tiny = tiny_models["ltx"]
    model = tiny.make()
    with (
        apply_cache(model, GivenConfig(decisions, decision="sample"), STEPS),
        pytest.raises(ValueError, match=f"^decide of CautiousPolicy .*{message}"),
    ):
        tiny.sample(model, (0, 1), STEPS)


@pytest.mark.parametrize(
    ("name", "message"), [("flux", "CuriousConfig reads the first block's modulated input"), ("latte", "noise level")]
)
def test_refused_before_anything_is_touched(tiny_models, name, message):
    model = tiny_models[name].make()
    before = [set(vars(module)) for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        apply_cache(model, CuriousConfig(), STEPS)
    assert [set(vars(module)) for module in model.modules()] == before


@dataclass(frozen=True)
class DeepConfig(CautiousConfig):
    """Measures a layer that small models lack."""

    residual: str | None = None
    probe = property(lambda self: Probe(self.residual, (99,)))


@pytest.mark.parametrize("residual", [None, "output"])
@pytest.mark.parametrize("name", ["stdit3", "ltx"])
def test_a_probe_beyond_the_last_layer(golden_model, tiny_models, name, residual):
    model = golden_model if name == "stdit3" else tiny_models[name].make()
    before = [set(vars(module)) for module in model.modules()]
    with pytest.raises(ValueError, match=r"a probe .* must name layers of 0\.\.\d, got 99"):
        apply_cache(model, DeepConfig({1e9: 2}, residual=residual), STEPS)
    assert [set(vars(module)) for module in model.modules()] == before


@pytest.mark.parametrize(
    ("config", "given"), [(CuriousConfig, "the class CuriousConfig"), ({"codebook": {1.0: 1}}, "dict")]
)
def test_what_is_no_config(golden_model, config, given):
    with pytest.raises(ValueError, match=f"an instance of a CacheConfig, got {given}"):
        apply_cache(golden_model, config, STEPS)
