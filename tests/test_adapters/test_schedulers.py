"""The corrector and the schedulers of diffusers: weights of outputs, what a correction does to latents, refusals."""

from __future__ import annotations

import math

import diffusers
import pytest
import torch

from opensora_adacache import ForecastCacheConfig, apply_cache
from opensora_adacache.adapters.diffusers.pipeline import NO_CORRECTOR
from opensora_adacache.adapters.diffusers.pipeline_steps import weights_of_run
from opensora_adacache.adapters.schedulers import LINEAR, check_scheduler, output_weights
from opensora_adacache.caching.forecast.config import PlannedForecastConfig
from opensora_adacache.caching.residuals.corrector import Corrector
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

# diffusers makes an array from a tensor in a way that numpy 2 announces to change
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

N = 10
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
COGVIDEOX = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
# name -> (class, config)
SCHEDULERS = {
    "flow": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "flow, stochastic": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "stochastic_sampling": True}),
    "flow, inverted": ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False}),
    "DDIM, v": ("DDIMScheduler", {"clip_sample": False, "prediction_type": "v_prediction"}),
    "CogVideoX": ("CogVideoXDDIMScheduler", COGVIDEOX),
    "CogVideoX, DPM": ("CogVideoXDPMScheduler", COGVIDEOX),
    "UniPC, flow": ("UniPCMultistepScheduler", FLOW),
    "UniPC, order 3": ("UniPCMultistepScheduler", {**FLOW, "solver_order": 3}),
    "UniPC, noise": ("UniPCMultistepScheduler", {}),
    "DPM++, flow": ("DPMSolverMultistepScheduler", FLOW),
    "DPM++, v": ("DPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
    "DPM++, stochastic": ("DPMSolverMultistepScheduler", {**FLOW, "algorithm_type": "sde-dpmsolver++"}),
    "Euler": ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
    "Euler, ancestral": ("EulerAncestralDiscreteScheduler", {}),
}
QUICK = ("flow", "CogVideoX", "UniPC, flow")
CASES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SCHEDULERS]
ONE_STEP = ("flow", "flow, stochastic", "DDIM", "DDIM, v", "CogVideoX", "Euler", "Euler, ancestral")


def make(name, num_steps=N):
    kind, config = SCHEDULERS[name]
    scheduler = getattr(diffusers, kind)(**config)
    scheduler.set_timesteps(num_steps)
    return scheduler


def sample(scheduler, outputs):
    """Return the latents before each step and at the end, where the model returns the given outputs [n, …]."""
    x, sample, before = torch.full((1, 2, 3), 0.5), None, None
    generator, states = torch.Generator().manual_seed(0), [x]
    for t, out in zip(scheduler.timesteps, outputs, strict=True):
        if type(scheduler).__name__ == "CogVideoXDPMScheduler":
            x, sample = scheduler.step(out, sample, t, before, x, generator=generator, return_dict=False)
        else:
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(x, t)
            takes = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
            x = scheduler.step(out, t, x, **takes, return_dict=False)[0]
        before = t
        states.append(x)
    return states


def test_every_linear_scheduler_is_tested():
    assert {kind for kind, _ in SCHEDULERS.values()} == set(LINEAR)


@pytest.mark.parametrize("name", CASES)
def test_an_error_of_an_output_moves_the_final_latents_by_its_weight(name):
    weights = output_weights(make(name), N)
    outputs = torch.randn(N, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    plain = sample(make(name), outputs)[-1]
    for step in range(N):
        error = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(step))
        changed = outputs.clone()
        changed[step] += error
        moved = sample(make(name), changed)[-1] - plain
        torch.testing.assert_close(moved, weights[step] * error, atol=2e-4, rtol=2e-3)


def test_weights_of_the_equations():
    """Of the one-step schedulers: the equations that the module states."""
    flow = make("flow")
    sigmas = flow.sigmas.tolist()
    assert output_weights(flow, N) == pytest.approx([b - a for a, b in zip(sigmas, sigmas[1:], strict=False)])
    for name in ("DDIM", "DDIM, v"):
        scheduler = make(name)
        signal = [scheduler.alphas_cumprod[int(t)].item() for t in scheduler.timesteps]
        signal.append(scheduler.final_alpha_cumprod.item())
        angle = [math.atan(math.sqrt((1 - one) / one)) for one in signal]
        if name == "DDIM":
            expected = [
                math.sqrt(signal[-1]) * (math.tan(b) - math.tan(a)) for a, b in zip(angle, angle[1:], strict=False)
            ]
        else:
            turns = [b - a for a, b in zip(angle, angle[1:], strict=False)]
            expected = [math.sin(turn) * math.prod(map(math.cos, turns[i + 1 :])) for i, turn in enumerate(turns)]
        assert output_weights(scheduler, N) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("skipped", [pytest.param((3,), marks=pytest.mark.slow), (3, 4, 6), (8,)])
@pytest.mark.parametrize("name", CASES)
def test_a_full_correction_of_outputs_on_a_line_gives_the_latents_without_skipping(name, skipped):
    """Outputs that lie on a line over the timestep, skipped ones replaced by the last computed one, fraction 1."""
    scheduler = make(name)
    times = scheduler.timesteps.float()
    if times[0] < times[-1]:
        times = 1000 - times  # as the adapter turns Mochi's
    start, slope = torch.randn(2, 1, 2, 3, generator=torch.Generator().manual_seed(1)).unbind()
    truth = [start + slope * t / 1000 for t in times]
    cached, last = [], truth[0]
    for step, out in enumerate(truth):
        last = last if step in skipped else out
        cached.append(last)
    corrector, corrected = Corrector(ResidualStore(), 1.0, output_weights(scheduler, N)), []
    for step, out in enumerate(cached):
        computes = step not in skipped
        corrected.append(corrector.correct(out, times[step : step + 1], computes, None, step == N - 1))
    expected, plain = sample(make(name), truth), sample(make(name), cached)
    found = sample(make(name), corrected)
    first = min(skipped) + 1
    assert not torch.allclose(plain[first], expected[first], atol=1e-3)
    scale = max(1.0, expected[-1].abs().max().item())
    torch.testing.assert_close(found[-1], expected[-1], atol=3e-4 * scale, rtol=3e-3)
    if name in ONE_STEP:  # right from the corrected step on
        after = max(skipped) + 2
        scale = max(1.0, expected[after].abs().max().item())
        torch.testing.assert_close(found[after], expected[after], atol=3e-4 * scale, rtol=3e-3)


def test_a_run_that_begins_within_the_timesteps():
    """The second expert of Wan 2.2, or a video to start from: the weights are those of the last steps."""
    whole = output_weights(make("flow"), N)
    assert output_weights(make("flow"), N - 4, first=4) == pytest.approx(whole[4:])
    scheduler = make("flow")
    x = torch.zeros(1, 2, 3)
    for t in scheduler.timesteps[:4]:
        x = scheduler.step(x, t, x, return_dict=False)[0]
    assert output_weights(scheduler, N - 4) == pytest.approx(whole[4:])
    assert scheduler.step_index == 4  # left as it was
    pipeline = make_pipeline("wan")
    pipeline.scheduler = scheduler
    assert weights_of_run(pipeline, N) == pytest.approx((*whole[4:], *[0.0] * 4))  # guidance that is switched on later
    with pytest.raises(ValueError, match="a run of 10 steps has 6 timesteps left"):
        output_weights(scheduler, N)
    told = make("UniPC, flow")
    told.set_begin_index(3)
    alone = make("UniPC, flow")
    alone.set_begin_index(3)
    assert (
        output_weights(told, N - 3, first=0) == output_weights(alone, N - 3) != output_weights(make("UniPC, flow"), N)
    )
    # one that counts no steps takes the last ones, unless it is told
    assert output_weights(make("CogVideoX"), N - 4) == pytest.approx(output_weights(make("CogVideoX"), N)[4:])


@pytest.mark.parametrize(("name", "strength"), [("cogvideox", 0.5), pytest.param("wan", 0.7, marks=pytest.mark.slow)])
def test_a_transformer_of_a_pipeline_that_starts_from_a_video(name, strength):
    """With the scheduler, it corrects as the pipeline does, which knows where it starts."""
    pipeline = make_pipeline(name)
    kind = {"cogvideox": "CogVideoXVideoToVideoPipeline", "wan": "WanVideoToVideoPipeline"}[name]
    parts = ("tokenizer", "text_encoder", "vae", "transformer", "scheduler")
    twin = getattr(diffusers, kind)(**{part: getattr(pipeline, part) for part in parts})
    twin.set_progress_bar_config(disable=True)
    video = [torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)).numpy() for _ in range(5)]

    def change():
        size = {"height": 32, "width": 32, "max_sequence_length": 16, "output_type": "latent"}
        call = {"num_inference_steps": 12, "strength": strength, "generator": torch.Generator().manual_seed(0)}
        return twin(video, "a red circle", **call, **size).frames

    with apply_cache(twin, CORRECTED) as session:
        expected = change()
    number = len(session.trace)
    assert 5 < number < 12
    with apply_cache(twin.transformer, CORRECTED, number, scheduler=twin.scheduler):
        assert torch.equal(change(), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_guidance_that_is_switched_on_later():
    """The branch for the null prompt takes the scheduler's last steps, and corrects with their weights."""
    pipeline = make_pipeline("hunyuan-video-1.5")
    pipeline.guider = diffusers.ClassifierFreeGuidance(guidance_scale=6.0, start=0.4)
    with apply_cache(pipeline, CORRECTED) as session:
        found = []
        count = session.count_steps
        session.count_steps = lambda: (count(), found.append(weights_of_run(pipeline, 8)))
        generate(pipeline, "hunyuan-video-1.5", 8)
        assert {name: len(branch.trace) for name, branch in session.branches.items()} == {
            "pred_cond": 8,
            "pred_uncond": 5,
        }
    whole = found[0]
    assert found[-1] == pytest.approx((whole[-1], *[0.0] * 7)) and found[1] == pytest.approx((*whole[1:], 0.0))


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (diffusers.DDIMScheduler(), "does not clip its samples, got DDIMScheduler with clip_sample=True"),
        (diffusers.UniPCMultistepScheduler(thresholding=True), "got UniPCMultistepScheduler with thresholding=True"),
        (diffusers.LCMScheduler(), "linear in the model's outputs .*, got LCMScheduler: use one of these"),
        (diffusers.FlowMatchHeunDiscreteScheduler(), "got FlowMatchHeunDiscreteScheduler"),
        ("euler", "got 'euler'"),
    ],
)
def test_others_are_refused(scheduler, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_scheduler(scheduler)
    assert "\n" not in str(caught.value)


CORRECTED = PlannedForecastConfig(steps=(1, 2, 3, 5), corrector=0.5)


def generate(pipeline, name, num_inference_steps=6, **changes):
    arguments = {**call_arguments(name), "num_inference_steps": num_inference_steps, **changes}
    return pipeline("a red circle", generator=torch.Generator().manual_seed(0), **arguments).frames


def test_a_pipeline_knows_its_scheduler():
    pipeline = make_pipeline("wan")
    pipeline.scheduler = diffusers.UniPCMultistepScheduler(**FLOW)
    with apply_cache(pipeline, CORRECTED):
        corrected = generate(pipeline, "wan")
    with apply_cache(pipeline.transformer, CORRECTED, 6, scheduler=pipeline.scheduler):
        assert torch.equal(generate(pipeline, "wan"), corrected)
    with apply_cache(pipeline, PlannedForecastConfig(steps=(1, 2, 3, 5))):
        assert not torch.equal(generate(pipeline, "wan"), corrected)
    with apply_cache(pipeline.transformer, CORRECTED, 6, scheduler="rectified flow"):
        assert not torch.equal(generate(pipeline, "wan"), corrected)  # what UniPC is not
    session = apply_cache(pipeline, CORRECTED)
    pipeline.scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
    with pytest.raises(ValueError, match="got FlowMatchHeunDiscreteScheduler"):
        generate(pipeline, "wan")
    session.detach()


@pytest.mark.parametrize("name", NO_CORRECTOR)
def test_pipelines_that_do_more_to_outputs_are_refused(name):
    assert isinstance(getattr(diffusers, name), type)  # that diffusers has it
    pipeline = make_pipeline("wan")
    pipeline.__class__ = type(name, (type(pipeline),), {})
    with pytest.raises(ValueError, match=f"no corrector fits {name}, which .*: set corrector=0"):
        apply_cache(pipeline, CORRECTED)


def test_what_a_cache_with_a_corrector_refuses():
    pipeline = make_pipeline("wan")
    with pytest.raises(
        ValueError, match="must know the scheduler, which a transformer does not.*scheduler=pipe.schedu"
    ):
        apply_cache(pipeline.transformer, CORRECTED, 6)
    with pytest.raises(ValueError, match="a pipeline has its own scheduler"):
        apply_cache(pipeline, CORRECTED, scheduler=pipeline.scheduler)
    with pytest.raises(ValueError, match="got LCMScheduler"):
        apply_cache(pipeline.transformer, CORRECTED, 6, scheduler=diffusers.LCMScheduler())
    pipeline.scheduler = diffusers.LCMScheduler()
    with pytest.raises(ValueError, match="got LCMScheduler"):
        apply_cache(pipeline, CORRECTED)
    # nothing stays behind, and without a corrector any scheduler will do
    apply_cache(pipeline, ForecastCacheConfig(speedup=1.5, sensitivity=(2.0, 0.5))).detach()


def test_experts_know_their_part_of_the_scheduler():
    """Of two transformers, each corrects within its own steps, as one that is attached by itself does."""
    pipeline = make_pipeline("wan-2.2")
    pipeline.scheduler = diffusers.UniPCMultistepScheduler(**FLOW)
    config = PlannedForecastConfig(steps=(1, 2, 4), corrector=0.5)
    with apply_cache(pipeline, config) as session:
        corrected = generate(pipeline, "wan-2.2", 10)
        numbers = [part.num_sampling_steps for part in session.sessions.values()]
    assert sum(numbers) == 10 and min(numbers) >= 4
    names = ("transformer", "transformer_2")
    alone = [
        apply_cache(getattr(pipeline, name), config, number, scheduler=pipeline.scheduler)
        for name, number in zip(names, numbers, strict=True)
    ]
    assert torch.equal(generate(pipeline, "wan-2.2", 10), corrected)
    for session in alone:
        session.detach()
    pipeline.scheduler = diffusers.LCMScheduler()
    with pytest.raises(ValueError, match="got LCMScheduler"):
        apply_cache(pipeline, config)
