"""The tables of scripts/experiments/frontier.py."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from opensora_adacache.benchmark.description import SettingRecord, write_comparison

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "experiments" / "frontier.py"))


def row(setting, index, psnr, **changes):
    policy = setting.rpartition("-")[0]
    known = {"policy": policy, "setting": setting, "title": policy, "prompt": "p", "index": index, "seed": index}
    measured = {"psnr": psnr, "ssim": 0.9, "motion_error": 0.1, "motion": "fast", "computed_steps": 4, "num_steps": 8}
    rest = {key: None for key in ("lpips", "psnr_mp4", "ssim_mp4", "lpips_mp4", "peak_memory_bytes")}
    times = {"flicker": 0.0, "latency_s": 1.0, "loop_s": 1.0, "tflops": 1.0, "cache_bytes": 8}
    traces = {"schedule": "##..##..", "distances": [None] * 8, "motions": [None] * 8, "video": None}
    return known | measured | rest | times | traces | {"checks": {"colour": [1, 2]}} | changes


@pytest.fixture
def write(tmp_path, comparison):
    """Writes a benchmark of these settings: name → rows, and the budget of all settings."""

    def write(settings, budget=4.0):
        records = [SettingRecord(name, name, name.rpartition("-")[0], budget=budget) for name in settings]
        prompts = max(map(len, settings.values()))
        record = replace(comparison, settings=tuple(records), num_prompts=prompts, prompt_seed=7)
        write_comparison(tmp_path / "comparison.json", record)
        lines = [json.dumps(one) + "\n" for rows in settings.values() for one in rows]
        (tmp_path / "results.jsonl").write_text("".join(lines))
        return tmp_path

    return write


def of(name, *psnrs, **changes):
    return [row(name, index, psnr, **changes) for index, psnr in enumerate(psnrs)]


SETTINGS = {
    "adacache-2x": of("adacache-2x", 30, 32, 20),
    "easycache-2x": of("easycache-2x", 34, 35, 24),
    "forecastcache-2x": of("forecastcache-2x", 40, 43, 29),
}


def cells(lines, name):
    line = next(line for line in lines if line.startswith(f"| 2× | {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_forecastcache_beside_the_best_other_policy(script, write, capsys):
    folder = write(SETTINGS)
    out = folder / "frontier.md"
    assert script["main"]([str(folder), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if line.startswith("| 8 | 2×"))
    # differences of 6, 8 and 5 dB; one video of EasyCache and none of ForecastCache lies below 25 dB
    assert first.startswith("| 8 | 2× | 4 | 37.33 | easycache 31.00 | +6.33 [") and "| yes | 0.0 % / 33.3 % |" in first
    ours, ada = cells(lines, "**forecastcache**"), cells(lines, "adacache")
    assert ours[2:] == ["4.00", "", "37.33", "0.90000", "0.1000", "50.0", "0", "0.0", ""]
    assert ada[-1].startswith("+10.00 [") and "(best other)" in cells(lines, "easycache")[-1]
    assert "## 8 steps, 3 prompts × 1 seed" in lines and "prompt seed 7" in "\n".join(lines)
    assert first in out.read_text()


def test_exact_videos_are_counted_apart_and_other_budgets_do_not_compete(script, write, capsys):
    exact = of("easycache-2x", 34, 35, 100)
    folder = write(SETTINGS | {"easycache-2x": exact, "adacache-2x": of("adacache-2x", 50, 50, 50, computed_steps=5)})
    assert script["main"]([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    easy = cells(lines, "easycache")
    assert easy[4] == "34.50" and easy[8] == "1" and easy[-1].startswith("+7.00 [")  # of the first two videos
    assert cells(lines, "adacache")[3] == "off budget" and "(best other)" in easy[-1]


def test_an_unfinished_benchmark(script, write, capsys):
    """The videos count that all settings have; a setting that has begun late is named."""
    rows = SETTINGS | {"teacache-2x": of("teacache-2x", 20), "forecastcache-2x": of("forecastcache-2x", 40, 43)}
    assert script["main"]([str(write(rows))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "## 8 steps, 2 prompts × 1 seed: unfinished, 2 of 3 videos" in lines
    assert "Not made yet: teacache-2x." in lines and cells(lines, "adacache")[4] == "31.00"


def test_fewer_steps_than_the_fast_codebook(script, write, capsys):
    rows = SETTINGS | {
        "adacache-fast": of("adacache-fast", 38, 38, 38),
        "forecastcache-3": of("forecastcache-3", 37, 41, 39, computed_steps=3),
    }
    assert script["main"]([str(write(rows, None))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| forecastcache-3 | 3.00 | 0.750 | 39.00 | 0.90000 | 0.0 | +1.00 [-1.00, +3.00] |" in lines


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"adacache": of("adacache", 30)}, "no settings named POLICY-SPEEDUPx"), ({"a-2x": []}, "no video of all")],
)
def test_folders_without_figures(script, write, capsys, settings, message):
    assert script["main"]([str(write(settings))]) == 2
    assert message in capsys.readouterr().err
