"""The tables of scripts/experiments/crossed.py."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from opensora_adacache.benchmark.config import load_comparison
from opensora_adacache.benchmark.description import SettingRecord, write_comparison

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script():
    return runpy.run_path(str(ROOT / "scripts" / "experiments" / "crossed.py"))["main"]


def test_combinations_and_what_each_part_adds(script, make_row, comparison, tmp_path, capsys):
    """PSNR is 30, + 2 with a line, + 5 with the threshold, + 1 with the corrector, for both prompts."""
    parts = {"static": 0, "tafc": 5}, {"reuse": 0, "line": 2}, {"none": 0, "ours": 1}
    rows = {
        f"{d}+{p}+{c}-3": [
            make_row(setting=f"{d}+{p}+{c}-3", index=index, psnr=30.0 + index + x + y + z, computed_steps=steps)
            for index in range(2)
        ]
        for d, x in parts[0].items()
        for p, y in parts[1].items()
        for c, z in parts[2].items()
        for steps in [4 if (d, p, c) == ("tafc", "reuse", "ours") else 3]
    }
    records = tuple(SettingRecord(name, name, "x", budget=3) for name in rows)
    write_comparison(tmp_path / "comparison.json", replace(comparison, settings=records, num_prompts=2, prompt_seed=5))
    lines = [json.dumps(vars(row)) + "\n" for group in rows.values() for row in group]
    (tmp_path / "results.jsonl").write_text("".join(lines))
    assert script([str(tmp_path), "--out", str(tmp_path / "crossed.md")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "## 3 of 6 steps computed" in lines and "| predictor | static | tafc |" in lines
    assert "| reuse | 30.50 / 31.50 | 35.50 / 36.50 (4.0 steps) |" in lines
    assert "| line | 32.50 / 33.50 | 37.50 / **38.50** |" in lines
    assert "| decision tafc | static | +5.00 [+5.00, +5.00] |" in lines
    assert "| predictor line | reuse | +2.00 [+2.00, +2.00] |" in lines
    assert "| corrector ours | none | +1.00 [+1.00, +1.00] |" in lines
    assert "| line | 32.50" in (tmp_path / "crossed.md").read_text()


def test_a_folder_of_other_settings(script, make_row, comparison, tmp_path, capsys):
    write_comparison(tmp_path / "comparison.json", comparison)
    (tmp_path / "results.jsonl").write_text(json.dumps(vars(make_row())) + "\n")
    assert script([str(tmp_path)]) == 2
    assert "no settings named DECISION+PREDICTOR+CORRECTOR-STEPS" in capsys.readouterr().err


def test_the_config_has_every_combination_once():
    settings = load_comparison(ROOT / "configs" / "scenes" / "frontier" / "crossed.py").settings
    parts = [setting.name.rpartition("-")[0].split("+") for setting in settings if setting.budget == 14]
    decisions, predictors, correctors = ({part[place] for part in parts} for place in range(3))
    assert {"static", "adacache", "dpcache", "forecastcache"} <= decisions and len(predictors) == 7
    assert len(parts) == len(decisions) * 7 * 2 and correctors == {"none", "ours"}
    assert len({setting.name for setting in settings}) == len(settings)
