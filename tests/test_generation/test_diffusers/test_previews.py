"""Previews of pipelines: the estimate of each scheduler, the middle frame of each family."""

from __future__ import annotations

import inspect

import diffusers
import pytest
import torch

from opensora_adacache.config import load_config
from opensora_adacache.generation.diffusers.middle_frame import decode_middle_frame
from opensora_adacache.generation.diffusers.scheduler_steps import watched_steps
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.models import load_run
from opensora_adacache.testing.pipelines import FAMILIES

# Frames that are three latent frames, which a preview decodes all, or any number for a VAE of pictures.
FRAMES = {"latte": 5, "cogvideox": 9, "wan": 9, "wan-2.2": 9, "hunyuan-video": 9, "hunyuan-video-1.5": 5}
FRAMES |= {"ltx-video": 9, "ltx-2": 5, "mochi": 13}
pytestmark = [
    pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype is not supported"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of diffusers' schedulers
]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name != "wan" else ()) for name in FAMILIES]
)
def test_the_last_preview_is_the_middle_frame_and_changes_nothing(name, tmp_path, pipeline_config):
    frames = {"video_length" if name == "latte" else "num_frames": FRAMES[name]}
    (tmp_path / "config.py").write_text(pipeline_config(name, **frames))
    # the decoder of HunyuanVideo 1.5 takes one video at a time; Wan is the fast one of these tests
    prompts = ["a red circle", "a blue square"][: 1 if name in ("hunyuan-video-1.5", "wan") else 2]
    values = {"prompt": prompts, "save_dir": "out", "cache.codebook": {1e9: 2, 1e10: 1}}
    config = load_config(tmp_path / "config.py", values)
    jobs, seen = plan_jobs(config), []
    models = load_run(config, jobs)
    with models.maker(config) as maker:
        torch.manual_seed(0)
        alone = maker.denoise(jobs)()
        torch.manual_seed(0)  # some decoders add noise from the global stream
        watched = maker.denoise(
            jobs,
            lambda step: seen.append((step.index, step.num_steps, step.computed, step.preview(), step.distances)),
        )()
    assert [entry[:2] for entry in seen] == [(index, 6) for index in range(6)]
    if name != "wan-2.2":  # whose transformers share the steps
        assert "".join(".#"[entry[2][0]] for entry in seen) == "##.###"
        assert [entry[4][0] for entry in seen] == [record.distance for record in watched[0].traces[0]]
    for row, (clip, same) in enumerate(zip(watched, alone, strict=True)):
        assert torch.equal(clip.frames, same.frames)
        middle = clip.frames[:, clip.frames.shape[1] // 2]
        errors = [(entry[3][row].clamp(-1, 1) - middle).abs().mean().item() for entry in seen]
        assert errors[-1] < 1e-4 < errors[0]


SCHEDULERS = {
    "FlowMatchEulerDiscreteScheduler": {},
    "UniPCMultistepScheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
    "DPMSolverMultistepScheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
    "DDIMScheduler": {"prediction_type": "v_prediction", "clip_sample": False},
    "CogVideoXDDIMScheduler": {"prediction_type": "v_prediction"},
    "EulerDiscreteScheduler": {"prediction_type": "epsilon"},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_estimates_of_schedulers_find_what_a_perfect_model_aims_at(name):
    """A model that knows the clean latents gives outputs from which each step must find them again."""
    scheduler = getattr(diffusers, name)(**SCHEDULERS[name])
    scheduler.set_timesteps(6)
    clean, noise = torch.tensor([[[0.5]]]), torch.tensor([[[-1.25]]])
    before, found, x = inspect.signature(scheduler.step), [], None

    def look(step):
        found.append((step.index, step.num_steps, step.final_latents().item()))

    with watched_steps(scheduler, look):
        assert inspect.signature(scheduler.step) == before
        for index, t in enumerate(scheduler.timesteps):
            if "sigmas" in vars(scheduler) and name != "EulerDiscreteScheduler":
                x, out = scheduler.sigmas[index] * noise + (1 - scheduler.sigmas[index]) * clean, noise - clean
            elif name == "EulerDiscreteScheduler":
                x, out = clean + scheduler.sigmas[index] * noise, noise
                scheduler.scale_model_input(x, t)
            else:
                signal = scheduler.alphas_cumprod[t]
                x = signal.sqrt() * clean + (1 - signal).sqrt() * noise
                out = signal.sqrt() * noise - (1 - signal).sqrt() * clean
            scheduler.step(out, t, x)
    assert found == [(index, 6, pytest.approx(0.5, abs=1e-4)) for index in range(6)]
    assert "step" not in vars(scheduler)


def test_a_scheduler_without_estimates_shows_the_current_latents():
    scheduler, seen = diffusers.PNDMScheduler(skip_prk_steps=True), []
    scheduler.set_timesteps(4)
    x = torch.ones(1, 1, 2)
    with watched_steps(scheduler, lambda step: seen.append(step.final_latents())):
        for t in scheduler.timesteps:
            x = scheduler.step(x * 0.1, t, x).prev_sample
    assert torch.equal(seen[-1], x) and len(seen) == len(scheduler.timesteps)


def test_unknown_latents_are_refused_in_one_line():
    vae = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"latents \[1, 4, 2, 8, 8\] of Identity have an unknown layout"):
        decode_middle_frame(vae, vae.forward, torch.zeros(1, 4, 2, 8, 8), None)
