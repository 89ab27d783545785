"""The command that finds a codebook, on small checkpoints."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.adapters.recorder import record_probe
from opensora_adacache.benchmark.config import load_comparison
from opensora_adacache.caching.forecast.config import ForecastCacheConfig, PlannedForecastConfig
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.policies.budcache import BudCacheConfig
from opensora_adacache.caching.policies.gcache import GCacheConfig
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.caching.policies.recache import ReCacheConfig
from opensora_adacache.caching.policies.sencache import SenCacheConfig
from opensora_adacache.caching.replay import replay
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.calibration import forecasts, schedule_searches
from opensora_adacache.calibration.bayesian import FIRST_POINTS
from opensora_adacache.calibration.calibrator import Calibrator, check_settings
from opensora_adacache.calibration.forecasts import Forecasts
from opensora_adacache.calibration.planned_runs import PlannedRuns
from opensora_adacache.calibration.plans import Plans
from opensora_adacache.calibration.reinforce import learn
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.stdit3_runs import STDiT3Runs
from opensora_adacache.calibration.thresholds import Thresholds
from opensora_adacache.config import load_config
from opensora_adacache.config.calibrated import write_calibrated
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.loading import load_models
from opensora_adacache.presets.calibrated_file import read_calibrated

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def calibrate():
    return runpy.run_path(str(ROOT / "scripts" / "calibrate.py"))["main"]


PROMPTS = 'prompt = ["a red circle", "a blue square"]\n'
ADACACHE = 'cache = dict(type="AdaCache", codebook={0.02: 4, 0.05: 3, 0.1: 2, 1.0: 1}, cache_loc=(2,))\n'


@pytest.fixture
def write_config(tiny_config, tmp_path):
    """Return a function that writes a run config on the small checkpoints."""

    def write(text: str) -> str:
        path = tmp_path / "config.py"
        path.write_text(f'{tiny_config}{PROMPTS}save_dir = "{tmp_path}"\n{text}')
        return str(path)

    return write


def test_a_codebook_for_a_wanted_speedup(calibrate, write_config, tmp_path, capsys):
    out = tmp_path / "codebook.json"
    assert calibrate([write_config(ADACACHE), "--speedup", "1.6", "--out", str(out)]) == 0
    assert "'codebook': {" in capsys.readouterr().out
    found = json.loads(out.read_text())["settings"]["adacache-1.6x"]
    assert list(found["section"]["codebook"].values()) == [4, 3, 2, 1]
    assert found["computed_steps"] == pytest.approx(8 / 1.6, abs=1)


def test_every_policy_with_a_knob(calibrate, write_config, tmp_path, monkeypatch):
    """The output loads as a benchmark config, and each planned schedule has the requested length."""
    monkeypatch.setattr(forecasts, "minimize", lambda loss, *_: loss((0.5, 0.5, 0.5)))  # one weighting is enough here
    out = tmp_path / "calibrated.json"
    names = [
        "teacache",
        "magcache",
        "easycache",
        "taylorseer",
        "dpcache",
        "lemica",
        "forecastcache",
        "l2p",
        "meancache",
    ]
    assert calibrate([write_config(""), "--speedup", "1.33", "--policy", *names, "--out", str(out)]) == 0
    comparison = tmp_path / "compare.py"
    names_found = [f"{name}-1.33x" for name in names]
    found = {name: dict(cache=dict(calibrated=f"{out}#{name}")) for name in names_found}
    comparison.write_text(f'run = "config.py"\nsettings = {found!r}\n')
    settings = load_comparison(comparison).settings
    assert [setting.name for setting in settings] == list(read_calibrated(out).settings) == names_found
    caches = {setting.name.partition("-")[0]: setting.config.cache for setting in settings}
    assert len(caches["lemica"].steps) == len(caches["dpcache"].steps) == len(caches["l2p"].steps) == 6
    assert caches["dpcache"].steps[:3] == (1, 2, 3) and caches["lemica"].steps[-1] == 8
    forecast = caches["forecastcache"]
    assert forecast.speedup == 1.33 and len(forecast.growth) == len(forecast.sensitivity) == 8
    assert sum(forecast.sensitivity) / 8 == pytest.approx(1.0, rel=0.01)
    assert len(caches["magcache"].ratios) == 7 and len(caches["teacache"].coefficients) == 5


@pytest.mark.slow
def test_probing_policies_for_a_speedup(calibrate, write_config, tmp_path):
    out, names = tmp_path / "calibrated.json", ("sencache", "navicache", "dicache", "bwcache")
    assert calibrate([write_config(""), "--speedup", "1.33", "--policy", *names, "--out", str(out)]) == 0
    found = read_calibrated(out).settings
    assert [setting.computed_steps for setting in found.values()] == pytest.approx([6] * 4, abs=1)
    assert len(found["sencache-1.33x"].section["input_sensitivities"]) == 7


@pytest.mark.slow
def test_ertacache_for_a_speedup(calibrate, write_config, tmp_path):
    out = tmp_path / "calibrated.json"
    arguments = ["--policy", "unshifted-ertacache", "--speedup", "1", "1.33", "--out", str(out)]
    assert calibrate([write_config(""), *arguments]) == 0
    found = read_calibrated(out).settings
    assert found["unshifted-ertacache-1x"].section["steps"] == [*range(1, 9)]
    setting = found["unshifted-ertacache-1.33x"]
    steps, slopes = setting.section["steps"], setting.section["slopes"]
    assert setting.computed_steps == len(steps) == pytest.approx(6, abs=1)
    assert [step for step in range(1, 9) if slopes[step - 1] == 0] == list(steps)


@pytest.mark.slow
def test_steps_that_compute_some_blocks_count_by_their_fraction(calibrate, write_config, tmp_path):
    config = write_config('cache = dict(type="Foresight", warmup_steps=3, interval=4)\n')
    out = tmp_path / "calibrated.json"
    assert calibrate([config, "--speedup", "1.33", "--out", str(out)]) == 0
    found = read_calibrated(out).settings["foresight-1.33x"]
    assert found.section["warmup_steps"] == 3 and found.computed_steps == pytest.approx(6, abs=1)


def test_a_wanted_psnr(calibrate, write_config, tmp_path):
    config, out = write_config('cache = dict(type="Static", interval=2)\n'), tmp_path / "found.json"
    assert calibrate([config, "--psnr", "100", "--out", str(out)]) == 0
    found = json.loads(out.read_text())["settings"]["static-100db"]
    assert found["computed_steps"] == 8 and found["psnr"] == 100  # only computing every step leaves no error


def test_a_file_keeps_the_settings_that_it_holds_and_refuses_another_model(calibrate, write_config, tmp_path, capsys):
    config, out = write_config('cache = dict(type="Planned", steps=(1, 2, 8))\n'), tmp_path / "found.json"
    for speedup in ("1.33", "1.6"):
        assert calibrate([config, "--speedup", speedup, "--limit", "1", "--out", str(out)]) == 0
    found = read_calibrated(out)
    assert list(found.settings) == ["planned-1.33x", "planned-1.6x"] and found.num_steps == 8
    assert found.settings["planned-1.6x"].command == (
        f"python scripts/calibrate.py {config} --speedup 1.6 --limit 1 --out {out}"
    )
    write_calibrated(out, replace(found, num_steps=50))
    capsys.readouterr()
    assert calibrate([config, "--speedup", "2", "--out", str(out)]) == 2
    assert "for 50 steps, not of" in capsys.readouterr().err
    assert calibrate([config, "--speedup", "2", "--out", "found.py"]) == 2
    assert "--out must name a .json file, got 'found.py'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", ["--speedup", "2"], "no cache section to calibrate"),
        ("", ["--speedup", "2", "--policy", "tecache"], "unknown policy 'tecache', did you mean 'teacache'"),
        ("", ["--speedup", "-1", "--policy", "static"], "--speedup must be a number of at least 1, got -1"),
        ("", ["--speedup", "2", "nan", "--policy", "static"], "at least 1, got nan"),
        ("", ["--speedup", "inf", "--policy", "static"], "at least 1, got inf"),
        ("", ["--speedup", "0", "--policy", "static"], "at least 1, got 0"),
        ("", ["--psnr", "nan", "--policy", "static"], "--psnr must be above 0, got nan"),
        (ADACACHE, ["--speedup", "50"], "--speedup 50 is out of reach: a run of 8 steps"),
        (ADACACHE, ["--speedup", "7.5"], "these rates reach speedups"),
        ('cache = dict(type="Planned", steps=(1, 2, 8))\n', ["--speedup", "7.5"], "these settings reach"),
    ],
)
def test_mistakes(calibrate, write_config, capsys, text, arguments, message):
    assert calibrate([write_config(text), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:") and message in error and error.count("\n") == 1


def test_a_policy_of_fixed_schedule_is_refused_before_anything_is_loaded(calibrate, write_config, monkeypatch, capsys):
    monkeypatch.setattr("opensora_adacache.generation.loading.load_models", lambda *_: pytest.fail("models are loaded"))
    assert calibrate([write_config(""), "--psnr", "30", "--policy", "adacache", "pab"]) == 2
    error = "error: PABConfig has a fixed schedule, so there is nothing to calibrate\n"
    assert capsys.readouterr().err == error
    # With guidance reuse, there may be a start of it to calibrate, which needs the model.
    check_settings(PABConfig(guidance_reuse=GuidanceReuse()))


@pytest.mark.slow
@pytest.mark.parametrize("out", ["file/found.json", "folder.json"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_loaded(
    calibrate, write_config, tmp_path, monkeypatch, capsys, out
):
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder.json").mkdir()
    monkeypatch.setattr("opensora_adacache.generation.loading.load_models", lambda *_: pytest.fail("models are loaded"))
    assert calibrate([write_config(ADACACHE), "--speedup", "2", "--out", str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: cannot write '{tmp_path / out}': ") and error.count("\n") == 1


def test_an_interrupt_says_what_was_found(calibrate, write_config, tmp_path, monkeypatch, capsys):
    found = Found(PlannedConfig((1, 2, 4)), 3)

    def search(calibrator, start, target):
        if target == 3:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Calibrator, "for_speedup", search)
    config, out = write_config(ADACACHE), tmp_path / "found.json"
    assert calibrate([config, "--speedup", "2", "2.7", "3", "4", "--limit", "1", "--out", str(out)]) == 130
    assert list(read_calibrated(out).settings) == ["adacache-2x", "adacache-2.7x"]
    error = f"interrupted: 2 settings found, stored in '{out}'; run the command again from adacache-3x on\n"
    assert capsys.readouterr().err == error


def test_a_tolerance_that_takes_so_many_steps_on_average(calibrate, write_config, tmp_path):
    config = write_config('cache = dict(type="ForecastCache", tolerance=1.0, order=1)\n')
    out = tmp_path / "found.json"
    assert calibrate([config, "--speedup", "1.33", "--out", str(out)]) == 0
    found = json.loads(out.read_text())["settings"]["forecastcache-1.33x"]
    assert found["section"]["tolerance"] > 0 and len(found["section"]["growth"]) == 8
    assert found["computed_steps"] == pytest.approx(6, abs=1)


def test_a_wanted_value_out_of_reach_does_not_cost_the_others(calibrate, write_config, tmp_path, capsys):
    config, out = write_config('cache = dict(type="Planned", steps=(1, 2, 8))\n'), tmp_path / "found.json"
    assert calibrate([config, "--speedup", "7.5", "1.33", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: planned-7.5x: these settings reach")
    assert list(json.loads(out.read_text())["settings"]) == ["planned-1.33x"]


@pytest.mark.parametrize("corrector", [0.0, 0.5])
def test_the_sensitivity_of_a_step_is_the_harm_of_forecasting_it_alone(write_config, corrector):
    """Compare with a whole run in which only that step is forecast. Nothing corrects the last step."""
    config = load_config(write_config("scheduler = dict(num_sampling_steps=6)\n"))
    jobs = plan_jobs(config)
    models = load_models(config, [text for job in jobs for text in job.texts])
    runs = STDiT3Runs(config, models, jobs)
    cache = ForecastCacheConfig(computed_steps=6, corrector=corrector)
    profiled = Forecasts(runs).profiled(cache)
    uncached, _ = runs.denoise(None)
    with apply_cache(models.transformer, cache, 6) as session:
        runs.denoise(None)
    harms = []
    for skipped in (4, 5, 6):
        steps = tuple(step for step in range(1, 7) if step != skipped)
        latents, _ = runs.denoise(PlannedForecastConfig(steps=steps, corrector=corrector))
        harm = (latents - uncached).square().flatten(1).mean(1).sqrt().mean().item()
        harms.append(harm / session.trace[skipped - 1].distance)
    harms[2] *= 1 - corrector
    expected = [harm / harms[0] for harm in harms]
    assert [value / profiled.sensitivity[3] for value in profiled.sensitivity[3:]] == pytest.approx(expected, rel=0.02)
    assert len(profiled.growth) == 6 and min(profiled.growth) > 0


def test_a_profile_of_a_run_that_is_too_short(write_config):
    config = load_config(write_config(""), {"scheduler.num_sampling_steps": 3})
    jobs = plan_jobs(config)[:1]
    runs = STDiT3Runs(config, load_models(config, [text for job in jobs for text in job.texts]), jobs)
    with pytest.raises(ValueError, match="no forecast was measured in runs of 3 steps; use more steps"):
        Forecasts(runs).profiled(ForecastCacheConfig(computed_steps=3, order=2))


def test_a_budget_gets_the_weighting_of_the_best_videos(write_config, monkeypatch):
    """Whole runs decide, so the videos are at least as good as without a weighting; the growth stays as measured."""
    monkeypatch.setattr(forecasts, "WEIGHTING_ROUNDS", FIRST_POINTS + 1)
    config = load_config(write_config("scheduler = dict(num_sampling_steps=5)\n"))
    jobs = plan_jobs(config)[:1]
    runs = STDiT3Runs(config, load_models(config, [text for job in jobs for text in job.texts]), jobs)
    cache = ForecastCacheConfig(computed_steps=4, sensitivity=(3.0, 1.0, 1.0), growth=(1.0, 2.0))
    found = Forecasts(runs).weighted(cache)
    assert found == replace(cache, sensitivity=found.sensitivity)
    assert runs.mean_psnr(found) >= runs.mean_psnr(cache)


def test_costs_of_segments_are_those_of_whole_runs(write_config):
    """A run that starts at step i from recorded outputs gives the same result as one that computed them."""
    config = load_config(write_config(""), {"scheduler.num_sampling_steps": 5})
    jobs = plan_jobs(config)
    models = load_models(config, [text for job in jobs for text in job.texts])
    runs = STDiT3Runs(config, models, jobs)

    def latents(cache):
        return models.pipeline(replace(config, cache=cache)).denoise(jobs, models.features)[0]

    uncached = latents(None)
    costs = Plans(runs).segment_costs
    assert costs.keys() == {(1, 3), (1, 4), (1, 5), (2, 4), (2, 5), (3, 5)}
    for (i, j), cost in costs.items():
        steps = [step for step in range(1, 6) if not i < step < j]
        expected = (latents(PlannedConfig(steps=steps)) - uncached).abs().mean().item()
        assert cost == pytest.approx(expected, abs=1e-6) and cost > 0


def test_a_run_that_begins_where_it_departs_from_an_earlier_one_gives_the_same_latents(write_config):
    config = load_config(write_config(""), {"scheduler.num_sampling_steps": 6})
    jobs = plan_jobs(config)
    models = load_models(config, [text for job in jobs for text in job.texts])
    runs, calls = STDiT3Runs(config, models, jobs), []
    planned = PlannedRuns(runs, jobs)
    models.transformer.spatial_blocks[0].register_forward_pre_hook(lambda *args: calls.append(1))
    # The blocks run at steps that are computed again. The second schedule begins at step 2, which it shares with the
    # first; the third begins at 4. The next two share step 1 alone; the last one begins at 4, as the fourth goes on.
    expected = {(1, 2, 4, 6): 4, (1, 2, 3, 6): 3, (1, 2, 4, 5): 2, (1, 4, 5): 3, (1, 5, 6): 3, (1, 4, 6): 2}
    for steps, number in expected.items():
        calls.clear()
        latents = planned.latents(steps)
        assert len(calls) == number, steps
        assert torch.equal(latents, runs.denoise(PlannedConfig(steps=steps))[0])


def test_budcache_plans_by_the_final_latents_of_whole_runs(write_config):
    """With one of four steps to skip, the plan is the best of the three schedules there are."""
    config = load_config(write_config(""), {"scheduler.num_sampling_steps": 4})
    jobs = plan_jobs(config)
    models = load_models(config, [text for job in jobs for text in job.texts])
    runs = STDiT3Runs(config, models, jobs)
    uncached, _ = runs.denoise(None)

    def harm(steps):
        return (runs.denoise(PlannedConfig(steps=steps))[0] - uncached).square().mean().item()

    plans, start = Plans(runs), BudCacheConfig(steps=(1,))
    family = plans.family(start)  # makes no plan before it is asked for one
    assert len(family) == 3 and family[0] == BudCacheConfig(steps=(1, 2, 3, 4))
    found = plans.for_speedup(start, 1.33)
    assert found.cache.steps == min([(1, 2, 3), (1, 2, 4), (1, 3, 4)], key=harm) and found.computed_steps == 3


@pytest.mark.slow
@pytest.mark.parametrize("start", [GCacheConfig(steps=(1,)), ReCacheConfig(steps=(1,))])
def test_searches_find_the_schedule_of_the_best_whole_runs(write_config, monkeypatch, start):
    """With one of four steps to skip there are three schedules."""
    monkeypatch.setattr(schedule_searches, "learn", partial(learn, updates=40))
    config = load_config(write_config(""), {"scheduler.num_sampling_steps": 4})
    jobs = plan_jobs(config)
    runs = STDiT3Runs(config, load_models(config, [text for job in jobs for text in job.texts]), jobs)
    uncached, _ = runs.denoise(None)

    def harm(steps):
        return (runs.denoise(PlannedConfig(steps=steps))[0] - uncached).square().mean().item()

    found = Plans(runs).for_speedup(start, 1.33)
    assert type(found.cache) is type(start) and found.computed_steps == 3
    assert found.cache.steps == min([(1, 2, 3), (1, 2, 4), (1, 3, 4)], key=harm)


def test_sencache_takes_the_sensitivities_of_each_video_alone(write_config):
    config = load_config(write_config(""), {"scheduler.num_sampling_steps": 3})
    jobs = plan_jobs(config)
    runs = STDiT3Runs(config, load_models(config, [text for job in jobs for text in job.texts]), jobs)
    first, second = runs.sensitivities
    found = Thresholds(runs).family(SenCacheConfig((1.0,), (1.0,)))[0]
    assert found.input_sensitivities == pytest.approx(
        [sum(pair) / 2 for pair in zip(first.inputs, second.inputs, strict=True)], 1e-3
    )
    assert found.time_sensitivities == pytest.approx(
        [sum(pair) / 2 for pair in zip(first.times, second.times, strict=True)], 1e-3
    )
    assert first.inputs != second.inputs and len(first.inputs) == 2


@torch.no_grad()
def test_replay_of_a_recording_equals_the_run_until_paths_part(golden_model):
    """A cached run equals the uncached one up to its first reused step, so the replayed decision is exact there."""
    config = AdaCacheConfig({0.02: 6, 0.05: 5, 0.1: 4, 0.2: 3, 1.0: 1}, cache_loc=(2,))
    z = torch.randn(2, 4, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {name: torch.full((2,), 64.0) for name in ("fps", "height", "width")}

    def walk():
        for step in range(10):
            golden_model(z * (1 - step / 20), torch.full((2,), 1000.0 - 100 * step), y, **size)

    with record_probe(golden_model, config) as recorder:
        walk()
    with apply_cache(golden_model, config, 10) as session:
        walk()
    # the inputs do not depend on the outputs here, so the whole schedule must agree
    recording = recorder.recording()
    assert replay(config, recording) == computed_steps(session.trace) and recording.num_steps == 10


@pytest.mark.parametrize(
    ("section", "found", "psnr"),
    [
        ("type='FasterCache', first_steps=3", "first_steps", "60"),
        pytest.param(
            *("type='Static', interval=1, guidance_reuse=dict(interval=3)", "guidance_reuse", "45"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_starts_for_a_wanted_psnr(calibrate, write_config, capsys, section, found, psnr):
    """A start in 1..7 of 8 steps; the earlier it is, the farther the video strays."""
    config = write_config(f"cache = dict({section})")
    assert calibrate([config, "--psnr", psnr, "--limit", "1"]) == 0
    assert f"'{found}'" in capsys.readouterr().out
    assert calibrate([config, "--speedup", "2", "--limit", "1"]) != 0
    assert "pass --psnr instead of --speedup" in capsys.readouterr().err
