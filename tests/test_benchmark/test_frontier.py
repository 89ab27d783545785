"""The tables of scripts/experiments/frontier.py."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from opensora_adacache.benchmark.results import read_results

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "experiments" / "frontier.py"))


def row(setting, index, psnr):
    policy = setting.rpartition("-")[0]
    known = {"policy": policy, "setting": setting, "title": policy, "prompt": "p", "index": index, "seed": index}
    measured = {"psnr": psnr, "ssim": 0.9, "motion_error": 0.1, "motion": "fast", "computed_steps": 4, "num_steps": 8}
    rest = {key: None for key in ("lpips", "psnr_mp4", "ssim_mp4", "lpips_mp4", "peak_memory_bytes")}
    times = {"flicker": 0.0, "latency_s": 1.0, "loop_s": 1.0, "tflops": 1.0, "cache_bytes": 8}
    traces = {"schedule": "##..##..", "distances": [None] * 8, "motions": [None] * 8, "checks": None, "video": "v.mp4"}
    return known | measured | rest | times | traces


@pytest.fixture
def folder(tmp_path):
    values = {"adacache-2x": (30, 32), "easycache-2x": (34, 35), "forecastcache-2x": (40, 43)}
    rows = [row(name, index, psnr) for name, pair in values.items() for index, psnr in enumerate(pair)]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert len(read_results(tmp_path / "results.jsonl")) == 6
    return tmp_path


def test_paired_differences_to_the_best_published_and_to_adacache(script, folder, capsys):
    out = folder / "frontier.md"
    assert script["main"]([str(folder), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    ours = next(line for line in lines if "**forecastcache**" in line)
    assert "41.50" in ours and "+7.00 [+6.00, +8.00]" in ours and "+10.50 [+10.00, +11.00]" in ours
    assert "best" in next(line for line in lines if "easycache" in line)
    assert ours in out.read_text()


def test_fewer_steps_than_the_fast_codebook(script, folder, capsys):
    rows = [row("adacache-fast", index, 38) for index in range(2)]
    rows += [row("forecastcache-3", index, psnr) | {"computed_steps": 3} for index, psnr in enumerate((37, 41))]
    with (folder / "results.jsonl").open("a") as file:
        file.writelines(json.dumps(r) + "\n" for r in rows)
    assert script["main"]([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| forecastcache-3 | 3.00 | 0.750 | 39.00 | 0.90000 | +1.00 [-1.00, +3.00] |" in lines


def test_a_folder_without_speedups(script, tmp_path, capsys):
    (tmp_path / "results.jsonl").write_text(json.dumps(row("adacache", 0, 30)) + "\n")
    assert script["main"]([str(tmp_path)]) == 2
    assert "no settings named POLICY-SPEEDUPx" in capsys.readouterr().err
