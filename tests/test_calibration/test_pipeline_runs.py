"""Whole pipelines of diffusers are calibrated: the command, its file, and a cache by speedup."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, apply_cache
from opensora_adacache.adapters.recorder import moved
from opensora_adacache.caching.forecast.config import PlannedForecastConfig
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.calibration.pipeline_runs import PipelineRuns, RecordedCalls
from opensora_adacache.config.load import load_config, pipeline_run
from opensora_adacache.generation.diffusers.loading import load_pipeline
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.presets.calibrated_file import read_calibrated
from opensora_adacache.testing.pipelines import call_arguments, make_pipeline

ROOT = Path(__file__).parents[2]
STEPS = 10
WITH_A_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a red circle\na blue square\n")
    return path


@pytest.fixture
def saved(tmp_path):
    """Saves the small pipeline of a family, with a scheduler that a corrector can be used with."""

    def saved(name, scheduler=None):
        pipeline = make_pipeline(name)
        if scheduler is not None:
            pipeline.scheduler = scheduler
        pipeline.save_pretrained(tmp_path / f"tiny-{name}")
        return tmp_path / f"tiny-{name}"

    return saved


def call_of(name):
    return {key: value for key, value in call_arguments(name).items() if key != "output_type"}


def calibrate(folder, name, prompts, *arguments, steps=STEPS):
    command = runpy.run_path(str(ROOT / "scripts" / "calibrate_pipeline.py"))["main"]
    call = json.dumps(call_of(name))
    common = ["--num-sampling-steps", str(steps), "--prompt-path", str(prompts), "--call", call]
    return command([str(folder), *common, *arguments])


@pytest.mark.parametrize(
    ("name", "steps", "speedup", "budget"),
    [
        ("wan", 6, 1.5, 4),
        pytest.param("wan", STEPS, 2, 5, marks=pytest.mark.slow),
        pytest.param("latte", STEPS, 2, 5, marks=pytest.mark.slow),
        pytest.param("cogvideox", STEPS, 2, 5, marks=pytest.mark.slow),
    ],
)
def test_from_the_command_to_a_cache_by_speedup(saved, prompts, calibrations, capsys, name, steps, speedup, budget):
    scheduler = {
        "latte": diffusers.DDIMScheduler(clip_sample=False),
        "wan": diffusers.UniPCMultistepScheduler(**WITH_A_FLOW),
    }
    folder = saved(name, scheduler.get(name))
    arguments = ["--speedup", str(speedup), "--policy", "forecastcache", "--limit", "1"]
    assert calibrate(folder, name, prompts, *arguments, steps=steps) == 0
    shown = capsys.readouterr().out
    assert f"forecastcache-{speedup}x: {budget}.00 of {steps} steps" in shown and str(calibrations) in shown
    assert re.search(r"the first batch took [\d.]+ s; all of it costs about \d+ uncached videos, \d+ s\n", shown)
    (path,) = calibrations.glob(f"tiny-{name}-*-{steps}.json")
    (setting,) = read_calibrated(path).settings.values()
    section = setting.section
    assert len(section["sensitivity"]) == len(section["growth"]) == steps and section["corrector"] == 0.5
    assert len(set(section["sensitivity"])) > 2 and setting.speedup == speedup

    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    with apply_cache(pipeline, speedup=speedup) as session:
        for factor in (1, 2):
            pipeline("a green square", **call_arguments(name), num_inference_steps=factor * steps)
            computed = [len(computed_steps(branch.trace)) for branch in session.branches.values()]
            assert computed == [factor * budget] * len(computed)
    with pytest.raises(ValueError, match="no AdaCache settings"):
        apply_cache(pipeline, speedup=speedup, policy="adacache")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wan", "latte"])
def test_other_kinds_and_targets(saved, prompts, calibrations, capsys, name):
    """Latte's scheduler clips its samples here, so ForecastCache is calibrated without a corrector."""
    folder = saved(name, diffusers.DDIMScheduler(clip_sample=True) if name == "latte" else None)
    policies = ("adacache", "forecastcache", "fbcache", "taylorseer", "lemica")
    code = calibrate(
        folder, name, prompts, "--speedup", "1.5", "--policy", *policies, "dpcache", "--out", str(folder / "a.json")
    )
    shown, errors = capsys.readouterr()
    assert code == 2 and "dpcache-1.5x: this policy is planned from measurements that need an STDiT3" in errors
    assert ("calibrated with corrector=0: a corrector needs a scheduler that does not clip" in errors) == (
        name == "latte"
    )
    settings = read_calibrated(folder / "a.json").settings
    assert list(settings) == [f"{policy}-1.5x" for policy in policies]
    assert settings["forecastcache-1.5x"].section.get("corrector", 0.0) == (0.0 if name == "latte" else 0.5)
    pipeline = DiffusionPipeline.from_pretrained(folder)
    with apply_cache(pipeline, speedup=1.5) as session:
        assert isinstance(session.config, ForecastCacheConfig)
    with apply_cache(pipeline, speedup=1.5, policy="adacache") as session:
        assert isinstance(session.config, AdaCacheConfig)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:a run of . steps is short")
def test_two_transformers_that_share_the_steps(saved, prompts, calibrations, tmp_path, capsys):
    """AdaCache and policies with a threshold or an interval get settings for both; plans and profiles are refused."""
    folder, steps = saved("wan-2.2"), 14
    policies = ("adacache", "fbcache", "static", "forecastcache", "lemica")
    arguments = ["--speedup", "1.2", "--policy", *policies, "--limit", "2"]
    assert calibrate(folder, "wan-2.2", prompts, *arguments, steps=steps) == 2
    shown, errors = capsys.readouterr()
    for policy in ("forecastcache", "lemica"):
        assert f"{policy}-1.2x: this policy is measured with recorded outputs of one transformer, and Wan" in errors
    (path,) = calibrations.glob(f"tiny-wan-2.2-*-{steps}.json")
    assert list(read_calibrated(path).settings) == ["adacache-1.2x", "fbcache-1.2x", "static-1.2x"]
    mean = float(re.search(rf"adacache-1.2x: ([\d.]+) of {steps} steps", shown).group(1))
    assert 10 <= mean <= 13

    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    computed = []
    with apply_cache(pipeline, speedup=1.2) as session:
        for seed, prompt in enumerate(prompts.read_text().splitlines()):
            generator = torch.Generator().manual_seed(seed)
            pipeline(prompt, **call_arguments("wan-2.2"), num_inference_steps=steps, generator=generator)
            computed += [len(computed_steps(branch.trace)) for branch in session.branches.values()]
    assert abs(sum(computed) / len(computed) - mean) <= 1

    config = tmp_path / "config.py"
    call = {**call_of("wan-2.2"), "num_inference_steps": steps}
    text = f'prompt_path = "{prompts}"\nsave_fps = 8\n'
    config.write_text(text + f'pipeline = dict(from_pretrained="{folder}", call={call}, torch_dtype="fp32")\n')
    command = runpy.run_path(str(ROOT / "scripts" / "calibrate.py"))["main"]
    assert command([str(config), "--policy", "adacache", "--speedup", "1.2", "--limit", "2"]) == 0
    assert f"adacache-1.2x: {mean:.2f} of {steps} steps" in capsys.readouterr().out


@pytest.mark.slow
def test_a_config_of_a_pipeline(saved, prompts, calibrations, tmp_path, capsys):
    """scripts/calibrate.py takes it, finds a tolerance, and a config finds the profile by a speedup."""
    folder = saved("wan")
    config = tmp_path / "config.py"
    call = {**call_of("wan"), "num_inference_steps": STEPS}
    text = f'prompt_path = "{prompts}"\nsave_fps = 8\n'
    text += f'pipeline = dict(from_pretrained="{folder}", call={call}, torch_dtype="fp32")\n'
    config.write_text(text + 'cache = dict(type="ForecastCache", tolerance=0.1, corrector=0.5)\n')
    command = runpy.run_path(str(ROOT / "scripts" / "calibrate.py"))["main"]
    assert command([str(config), "--speedup", "1.6", "--limit", "1"]) == 0
    (path,) = calibrations.glob("*.json")
    (found,) = read_calibrated(path).settings.values()
    assert found.section["tolerance"] > 0
    config.write_text(text + 'cache = dict(policy="forecastcache", speedup=1.6)\n')
    assert load_config(config).cache.sensitivity == tuple(found.section["sensitivity"])


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # raised inside diffusers
def test_schedulers_that_call_the_model_more_than_once_per_step_are_refused(saved, prompts):
    section = {"from_pretrained": str(saved("cogvideox")), "torch_dtype": "fp32"}
    section["call"] = {**call_of("cogvideox"), "num_inference_steps": 6}
    config = pipeline_run(section, str(prompts), seed=3)
    models, jobs = load_pipeline(config.pipeline), plan_jobs(config)
    PipelineRuns(config, models, jobs)
    for name in ("PNDMScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "FlowMatchHeunDiscreteScheduler"):
        models.pipeline.scheduler = getattr(diffusers, name)()
        with pytest.raises(ValueError, match=f"one call of the model per step, and {name} makes more"):
            PipelineRuns(config, models, jobs)
    models.pipeline.scheduler = diffusers.DPMSolverMultistepScheduler(solver_order=3)
    PipelineRuns(config, models, jobs)


def test_a_run_from_a_step_on_is_the_end_of_a_whole_run(saved, prompts):
    """What is replayed before a step, and what the corrector knows of the steps after it."""
    section = {
        "from_pretrained": str(saved("wan", diffusers.UniPCMultistepScheduler(**WITH_A_FLOW))),
        "call": {**call_of("wan"), "num_inference_steps": 6},
        "torch_dtype": "fp32",
    }
    config = pipeline_run(section, str(prompts), seed=3)
    jobs = plan_jobs(config)
    runs = PipelineRuns(config, load_pipeline(config.pipeline), jobs)
    recorded = runs.record(PlannedForecastConfig(steps=range(1, 7)), jobs)
    assert len(recorded.traces) == 4 and [len(one.steps) for one in recorded.outputs] == [6, 6]
    assert torch.equal(runs.denoise(None, jobs)[0], recorded.latents)
    assert runs.identity.name == "tiny-wan"
    runs.pipeline.register_to_config(_name_or_path=None)  # as one that no from_pretrained has made
    assert runs.identity.name == "tiny-wan"
    skipping = PlannedForecastConfig(steps=(1, 2, 3, 4, 6), corrector=0.5)
    whole, _ = runs.denoise(skipping, jobs)
    late = runs.denoise_from(2, PlannedForecastConfig(steps=(1, 2, 3, 5), corrector=0.5), recorded.outputs, jobs)
    torch.testing.assert_close(late, whole, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(late, recorded.latents, atol=1e-5)


def test_calls_belong_to_steps_also_where_half_precision_rounds_two_timesteps_alike():
    rounded = [1000.0, 996.0, 996.0, 988.0]
    recorded = RecordedCalls.of([(t, (i, branch)) for i, t in enumerate(rounded) for branch in "cu"], 4)
    assert recorded.steps == [[(i, "c"), (i, "u")] for i in range(4)]
    # guidance at two of four steps takes three calls there
    some = [(900.0, "c"), (800.0, "c"), *[(700.0, name) for name in "cun"], *[(600.0, name) for name in "cun"]]
    assert RecordedCalls.of(some, 4).steps == [["c"], ["c"], [*"cun"], [*"cun"]]
    with pytest.raises(ValueError, match="a run of 4 steps called the model 5 times, at 3 timesteps, so it is unknown"):
        RecordedCalls.of([(t, None) for t in (1000.0, 996.0, 996.0, 988.0, 988.0)], 4)


def test_outputs_are_moved_in_whatever_form_a_model_returns_them():
    x, device = torch.ones(2), torch.device("meta")
    output = Transformer2DModelOutput(sample=[x, x])
    (tensors,), named = moved(([x],), device), moved(output, device)
    assert type(tensors) is list and tensors[0].device == device
    assert type(named) is type(output) and [one.device for one in named.sample] == [device] * 2


@pytest.mark.slow
def test_a_run_of_neighbouring_timesteps_in_half_precision_is_replayed(saved, prompts):
    """HunyuanVideo gets its timesteps in the dtype of its weights, where steps 2 and 3 of these 30 are alike."""
    section = {
        "from_pretrained": str(saved("hunyuan-video", diffusers.FlowMatchEulerDiscreteScheduler(shift=17.0))),
        "call": {**call_of("hunyuan-video"), "num_inference_steps": 30},
        "torch_dtype": "bf16",
    }
    config = pipeline_run(section, str(prompts), seed=3)
    jobs = plan_jobs(config)[:1]
    runs = PipelineRuns(config, load_pipeline(config.pipeline), jobs)
    recorded = runs.record(None, jobs)
    late = runs.record_from(5, StaticConfig(interval=1), recorded.outputs, jobs)
    assert torch.equal(late.latents, recorded.latents) and [len(one.steps) for one in late.outputs] == [30]


def test_latents_of_half_precision_are_compared_in_float32(saved, prompts):
    section = {"from_pretrained": str(saved("cogvideox")), "call": call_of("cogvideox"), "torch_dtype": "bf16"}
    config = pipeline_run({**section, "call": {**section["call"], "num_inference_steps": 2}}, str(prompts), seed=3)
    jobs = plan_jobs(config)[:1]
    runs = PipelineRuns(config, load_pipeline(config.pipeline), jobs)
    assert runs.denoise(None)[0].dtype == runs.record(None, jobs).latents.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bf16", pytest.param("fp32", marks=pytest.mark.slow)])
def test_modules_that_must_stay_in_float32_do(saved, prompts, dtype):
    """As with `from_pretrained(dtype)`, and unlike after `.to(dtype)`."""
    section = {"from_pretrained": str(saved("wan")), "call": {"num_inference_steps": 6}, "torch_dtype": dtype}
    pipeline = load_pipeline(pipeline_run(section, str(prompts), seed=0).pipeline).pipeline
    assert pipeline.transformer.blocks[0].attn1.to_q.weight.dtype == (
        torch.bfloat16 if dtype == "bf16" else torch.float32
    )
    assert pipeline.transformer.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32


def test_a_device_map_needs_accelerate(saved, prompts, monkeypatch):
    section = {"from_pretrained": str(saved("wan")), "call": {"num_inference_steps": 6}, "device_map": "balanced"}
    settings = pipeline_run(section, str(prompts), seed=0).pipeline
    monkeypatch.setattr("diffusers.utils.is_accelerate_available", lambda: False)
    with pytest.raises(ValueError, match="pipeline.device_map needs accelerate: run pip install accelerate"):
        load_pipeline(settings)
    with pytest.raises(ValueError, match="offload and device_map both say where weights are kept"):
        pipeline_run({**section, "offload": "model"}, str(prompts), seed=0)
