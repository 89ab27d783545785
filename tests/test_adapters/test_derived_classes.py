"""What is known of a class of diffusers holds for the classes that users derive from it."""

from __future__ import annotations

import diffusers
import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.adapters.diffusers.pipeline import NO_CORRECTOR
from opensora_adacache.adapters.diffusers.pipeline_steps import STEPS_LEFT_OUT, count_steps
from opensora_adacache.caching.forecast.config import PlannedForecastConfig
from opensora_adacache.generation.diffusers.middle_frame import decode_middle_frame
from opensora_adacache.generation.diffusers.scheduler_steps import watched_steps
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

EACH_VIDEO = AdaCacheConfig({1e9: 2, 1e10: 1}, decision="sample")
pytestmark = pytest.mark.filterwarnings(
    "ignore:a run of . steps is short",
    "ignore:__array__ implementation:DeprecationWarning",  # of diffusers' schedulers
)


def derive(instance, name="Mine"):
    """Turn an instance into one of a class of a user."""
    instance.__class__ = type(name, (type(instance),), {})
    return instance


def generate(pipeline, name, prompts, **changes):
    arguments = {**call_arguments(name), "output_type": "latent", "num_inference_steps": 5}
    noise = [torch.Generator().manual_seed(0) for _ in prompts]
    return pipeline(prompts, generator=noise, **{**arguments, **changes}).frames


def test_a_pipeline_whose_guidance_is_on_by_its_scale():
    pipeline = derive(make_pipeline("cogvideox"))
    with apply_cache(pipeline, EACH_VIDEO) as session:
        generate(pipeline, "cogvideox", ["a red circle", "a blue square"], guidance_scale=1.0)
        assert len(session.traces) == 2 and session.traces[0][0].rows_computed == 2


def test_a_transformer_that_is_called_for_each_guidance_branch():
    """By a pipeline that does not name them, so that two videos of equal noise look like branches."""
    parts = make_pipeline("wan").components
    derive(parts["transformer"])
    pipeline = diffusers.WanVideoToVideoPipeline(
        *(parts[name] for name in ("tokenizer", "text_encoder", "transformer", "vae", "scheduler"))
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1, 1)
    size = {"height": 32, "width": 32, "max_sequence_length": 16, "output_type": "latent"}
    with apply_cache(pipeline, EACH_VIDEO) as session:
        pipeline(None, ["a red circle", "a blue square"], latents=noise, num_inference_steps=5, **size)
        assert {name: len(branch.traces) for name, branch in session.branches.items()} == {"": 2, "call 2": 2}


@pytest.mark.parametrize("name", STEPS_LEFT_OUT)
def test_a_pipeline_that_counts_the_steps_of_all_its_runs(name):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(7)
    known = type(name, (), {"num_timesteps": 24, "scheduler": scheduler})
    assert count_steps(derive(known())) == count_steps(known()) == 7 - STEPS_LEFT_OUT[name]


def test_a_pipeline_that_no_corrector_fits():
    pipeline = derive(derive(make_pipeline("wan"), next(iter(NO_CORRECTOR))))
    with pytest.raises(ValueError, match="no corrector fits Mine, which .*: set corrector=0"):
        apply_cache(pipeline, PlannedForecastConfig(steps=(1, 2, 3, 5), corrector=0.5))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}),
        ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    ],
)
def test_previews_of_a_scheduler(name, settings):
    """Estimates of the final latents; of an unknown scheduler, previews show the current latents."""
    found = []
    for scheduler in (getattr(diffusers, name)(**settings), derive(getattr(diffusers, name)(**settings))):
        scheduler.set_timesteps(6)
        with watched_steps(scheduler, lambda step: found.append(step.final_latents().item())):
            scheduler.step(torch.full((1, 1, 1), -1.75), scheduler.timesteps[0], torch.full((1, 1, 1), -1.25))
    assert found[0] == found[1] == pytest.approx(0.5, abs=2e-3)


def test_previews_of_a_vae():
    vae = make_pipeline("wan").vae
    latents = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = decode_middle_frame(vae, vae.decode, latents, None)
    derive(vae)
    assert torch.equal(decode_middle_frame(vae, vae.decode, latents, None), expected)
