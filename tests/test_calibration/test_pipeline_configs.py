"""`scripts/calibrate.py` on the configs of diffusers pipelines: what it finds is what a run then does."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from opensora_adacache.config import load_config
from opensora_adacache.generation.records import read_record
from opensora_adacache.generation.run import run

ROOT = Path(__file__).parents[2]
# the config of a run, its steps and the fewest that a codebook can compute of them
FAMILIES = ["latte", "cogvideox", "wan", "hunyuan-video", "ltx-video"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_calibrated_run_has_the_speedup(name, pipeline_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "run.py"
    path.write_text(pipeline_config(name, num_inference_steps=14))
    out = tmp_path / "found.json"
    command = runpy.run_path(str(ROOT / "scripts" / "calibrate.py"))["main"]
    arguments = [str(path), "--policy", "adacache", "--speedup", "2", "--limit", "2", "--out", str(out)]
    assert command(arguments) == 0
    assert "adacache-2x: " in capsys.readouterr().out
    cache = {"cache": {"calibrated": f"{out}#adacache-2x", "decision": "sample"}}
    config = load_config(path, {"save_dir": str(tmp_path / "out"), **cache})
    assert run(config).num_made == 3
    for index in range(2):  # the prompts of the calibration
        record = read_record(config.save_dir / f"sample_{index:04d}.json")
        assert record.num_steps / record.computed_steps == pytest.approx(2, abs=0.35)
