"""Guidance with three branches, and the guiders of modular pipelines."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.testing.pipelines import TEXT_LENGTH

slow = pytest.mark.slow
STEPS = 6


@pytest.fixture(scope="module")
def parts(families):
    """The parts of a tiny Wan pipeline with four blocks, of which a guider can skip some."""
    from opensora_adacache.testing.pipelines import make_pipeline

    return make_pipeline("wan", layers=4).components


@pytest.fixture
def modular(parts):
    """A modular Wan pipeline of diffusers with a guider, and a function that calls it."""
    from diffusers.modular_pipelines import WanBlocks

    def make(guider):
        pipeline = WanBlocks().init_pipeline()
        names = ("text_encoder", "tokenizer", "transformer", "scheduler", "vae")
        pipeline.update_components(**{name: parts[name] for name in names}, guider=guider)
        pipeline.set_progress_bar_config(disable=True)

        def call(steps=STEPS):
            guider.set_state(step=0, num_inference_steps=steps, timestep=None)  # it keeps the last call's
            arguments = {"height": 32, "width": 32, "num_frames": 5, "output_type": "pt"}
            arguments |= {"generator": torch.Generator().manual_seed(0), "max_sequence_length": TEXT_LENGTH}
            return pipeline(prompt="a red circle", num_inference_steps=steps, output="latents", **arguments)

        return pipeline, call

    return make


def guider(name, **settings):
    import diffusers

    return getattr(diffusers, name)(5.0, **settings)


SKIP = {"skip_layer_guidance_scale": 2.0, "skip_layer_config": {"indices": [3], "fqn": "blocks"}}
BLUR = {"seg_guidance_config": [{"indices": [3], "fqn": "blocks"}]}
GUIDERS = {
    "two calls": ("ClassifierFreeGuidance", {}, {"": 6, "call 2": 6}),
    "projected": ("AdaptiveProjectedGuidance", {}, {"": 6, "call 2": 6}),
    "guidance that ends": ("ClassifierFreeGuidance", {"stop": 0.5}, {"": 6, "call 2": 3}),
    "skipped layers": (
        "SkipLayerGuidance",
        {**SKIP, "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 0.7},
        {"": 6, "call 2": 6, "call 3": 3},
    ),
    "blurred queries": ("SmoothedEnergyGuidance", BLUR, {"": 6, "call 2": 6, "call 3": 5}),
}


@pytest.mark.parametrize(
    "name", [name if name == "skipped layers" else pytest.param(name, marks=slow) for name in GUIDERS]
)
def test_guiders_of_a_modular_pipeline(modular, name):
    class_name, settings, branches = GUIDERS[name]
    pipeline, call = modular(guider(class_name, **settings))
    plain = call()
    with apply_cache(pipeline, AdaCacheConfig({1.0: 1})) as session:
        assert torch.equal(call(), plain)
        assert {branch: len(each.trace) for branch, each in session.branches.items()} == branches
    with apply_cache(pipeline, AdaCacheConfig({1e9: 2, 1e10: 1})) as session:
        first = call()
        assert {branch: len(each.trace) for branch, each in session.branches.items()} == branches
        assert computed_steps(session.trace) == [1, 2, 4, 5, 6]
        assert torch.equal(call(), first) and not torch.equal(first, plain)
        assert (first - plain).norm() < 0.2 * plain.norm()
        call(4)
        assert len(session.trace) == 4


@slow
def test_a_guider_that_skips_the_layer_of_the_probe(modular):
    settings = {**SKIP, "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    pipeline, call = modular(guider("SkipLayerGuidance", **settings))
    with (
        apply_cache(pipeline, AdaCacheConfig({1.0: 1}, cache_loc=(3,))),
        pytest.raises(ValueError, match="the policy measures layer 3, which skip-layer guidance skips: choose another"),
    ):
        call()
