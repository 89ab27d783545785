"""Guidance that is switched off or on within a run.

Where the batch halves, the prompts' rows go on as they would alone. Where it doubles, the policy begins anew.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, apply_cache
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.dmd import DMDConfig
from opensora_adacache.caching.policies.easycache import EasyCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.caching.policies.spectrum import SpectrumConfig
from opensora_adacache.caching.policies.tafc import TAFCConfig
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.trace import computed_steps

STEPS, HALF_AT = 9, 5
CONFIGS = {
    "AdaCache": AdaCacheConfig({1e9: 3, 1e10: 1}),
    "AdaCache with a forecast": AdaCacheConfig({1e9: 3, 1e10: 1}, forecast=2),
    "ForecastCache": ForecastCacheConfig(computed_steps=6, corrector=0.5, sensitivity=(1.0, 1.1)),
    "EasyCache": EasyCacheConfig(threshold=0.5, warmup_steps=2),
    "FBCache": FBCacheConfig(0.1),
    "DiCache": DiCacheConfig(0.3, subtract_input=True),
    "TaylorSeer": TaylorSeerConfig(interval=3, first_steps=3, order=1),
    "DMD": DMDConfig(interval=2, first_steps=4),
    "Spectrum": SpectrumConfig(first_steps=3, blend=0.5),
    "TAFC": TAFCConfig(threshold=50.0, first_steps=3),
}
COMPUTE_ALL = {
    "AdaCache": AdaCacheConfig({1e9: 1}),
    "ForecastCache": ForecastCacheConfig(computed_steps=STEPS, corrector=0.5, sensitivity=(1.0, 1.1)),
    "EasyCache": EasyCacheConfig(threshold=1e-12),
    "FBCache": FBCacheConfig(1e-12),
    "DiCache": DiCacheConfig(1e-12, subtract_input=True),
    "TaylorSeer": TaylorSeerConfig(interval=1),
    "DMD": DMDConfig(interval=1),
    "Spectrum": SpectrumConfig(interval=1, growth=0),
    "TAFC": TAFCConfig(threshold=1e-12),
}


def few(names):
    """Return names as parameters, those of policies with few rules of their own as slow ones."""
    return [pytest.param(name, marks=pytest.mark.slow if name in ("DiCache", "DMD", "TAFC") else ()) for name in names]


class OpenSora:
    """Our STDiT3, called with the prompts in the first half of the batch."""

    prompts = slice(0, 2)

    def __init__(self, model):
        self.model = model
        gen = torch.Generator().manual_seed(4)
        self.x = torch.randn(2, 4, 3, 8, 8, generator=gen)
        self.y = torch.randn(4, 1, 12, 32, generator=gen)

    def step(self, x, t, both):
        y = self.y if both else self.y[self.prompts]
        more = {key: torch.ones(len(y)) for key in ("fps", "height", "width")}
        out = self.model(x, timestep=torch.full((len(y),), float(t)), y=y, **more)
        return out[:, :4]


class CogVideoX:
    """diffusers' CogVideoX, called with the prompts in the second half of the batch."""

    prompts = slice(2, 4)

    def __init__(self, tiny):
        self.model = tiny.make()
        self.x = torch.cat([tiny.latents(0), tiny.latents(1)])
        self.y = torch.cat([tiny.text(seed)["encoder_hidden_states"] for seed in (7, 8, 0, 1)])

    def step(self, x, t, both):
        y = self.y if both else self.y[self.prompts]
        with self.model.cache_context("cond_uncond"):
            return self.model(
                hidden_states=x, timestep=torch.full((len(y),), float(t)), encoder_hidden_states=y, return_dict=False
            )[0]


@pytest.fixture(params=["STDiT3", "CogVideoX"])
def sampler(request, tiny_models, golden_model):
    return OpenSora(golden_model) if request.param == "STDiT3" else CogVideoX(tiny_models["cogvideox"])


@torch.no_grad()
def sample(sampler, guided=range(HALF_AT)):
    """Return the outputs for the prompts at every step; the latents go on with these alone."""
    x, outs = sampler.x, []
    for index, t in enumerate(torch.linspace(1000, 1000 / STEPS, STEPS)):
        both = index in guided
        out = sampler.step(torch.cat([x, x]) if both else x, t, both)
        outs.append(out[sampler.prompts] if both else out)
        x = x - outs[-1] / STEPS
    return torch.stack(outs)


@pytest.mark.parametrize("name", few(COMPUTE_ALL))
def test_a_run_that_computes_every_step_is_the_plain_one(sampler, name):
    plain = sample(sampler)
    with apply_cache(sampler.model, COMPUTE_ALL[name], STEPS, scheduler="rectified flow") as session:
        assert torch.equal(sample(sampler), plain)
        assert computed_steps(session.trace) == [*range(1, STEPS + 1)]


@pytest.mark.parametrize("name", few(CONFIGS))
def test_the_rows_that_remain_go_on(sampler, name):
    plain = sample(sampler)
    with apply_cache(sampler.model, CONFIGS[name], STEPS, scheduler="rectified flow") as session:
        outs = sample(sampler)
        record = session.trace
        steps = computed_steps(record)
        assert len(record) == STEPS and 1 < len(steps) < STEPS
        assert [r.rows_computed for r in record if r.computed] == [4 if step <= HALF_AT else 2 for step in steps]
        assert any(step > HALF_AT and step not in steps for step in range(1, STEPS + 1))
        assert outs.shape == plain.shape and outs.isfinite().all()
        assert (outs - plain).norm() < 0.5 * plain.norm()
        assert torch.equal(sample(sampler), outs), "the next run begins with the whole batch again"


@pytest.mark.parametrize("name", ["AdaCache", "AdaCache with a forecast", "TaylorSeer", "Spectrum"])
def test_they_go_on_with_their_own_residuals(sampler, name):
    """A schedule that depends on no figure: the prompts' rows are what they are without the others from the start."""
    with apply_cache(sampler.model, CONFIGS[name], STEPS, scheduler="rectified flow") as session:
        alone = sample(sampler, guided=())
        steps = computed_steps(session.trace)
        halved = sample(sampler)
        assert computed_steps(session.trace) == steps
    torch.testing.assert_close(halved, alone, atol=2e-4, rtol=2e-4)


def test_each_video_decides_for_itself(sampler):
    config = replace(CONFIGS["EasyCache"], decision="sample")
    with apply_cache(sampler.model, config, STEPS, scheduler="rectified flow") as session:
        both = sample(sampler)
        traces = [computed_steps(trace) for trace in session.traces]
        assert len(traces) == 2 and both.isfinite().all()


@pytest.mark.parametrize("guided", [range(2, STEPS), range(2, 5)], ids=["from-step-3", "steps-3-to-5"])
def test_guidance_that_is_switched_on(tiny_models, guided):
    """A pipeline says that no other video begins; of a model by itself, another one could be meant."""
    sampler = CogVideoX(tiny_models["cogvideox"])
    plain = sample(sampler, guided)
    config = AdaCacheConfig({1e9: 3, 1e10: 1}, decision="sample")
    for settings, steps in ((COMPUTE_ALL["AdaCache"], [1, 2, 3, 4, 5, 6, 7]), (config, [1, 2, 5, 6, 7])):
        with apply_cache(sampler.model, settings, STEPS) as session:
            with pytest.raises(ValueError, match="latents changed from .2, .* to .4, .* at step 3 of 9"):
                sample(sampler, guided)
            session.begins_call = lambda: False
            outs = sample(sampler, guided)
            assert [computed_steps(trace) for trace in session.traces] == [steps] * (1 if settings is not config else 2)
            assert session.traces[0][0].rows_computed == 4
            assert torch.equal(sample(sampler, guided), outs)
        assert torch.equal(outs, plain) is (settings is not config) and outs.isfinite().all()
    session = apply_cache(sampler.model, PlannedConfig((1, 9)), STEPS)
    session.begins_call = lambda: False
    with pytest.raises(ValueError, match="after 2 of 9 steps, and the policy begins anew with the 7 that are left"):
        sample(sampler, guided)
    session.detach()
