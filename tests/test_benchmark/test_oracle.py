"""scripts/experiments/oracle.py on small checkpoints."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from statistics import fmean

import pytest

from opensora_adacache.benchmark.config import load_comparison
from opensora_adacache.benchmark.oracle_plans import costs_path, measure_costs
from opensora_adacache.benchmark.tasks import plan_tasks
from opensora_adacache.errors.family import RecordError
from opensora_adacache.generation.loading import LoadedModels

ROOT = Path(__file__).parents[2]
SETTINGS = """
_profile = dict(type="ForecastCache", sensitivity=(2.0, 1.0, 0.5), growth=(8.0, 2.0, 4.0), decision="sample")
settings = {
    "forecastcache-4": dict(cache=dict(computed_steps=4, **_profile)),
    "forecastcache-6": dict(cache=dict(computed_steps=6, **_profile)),
    "every-2": dict(cache=dict(type="Static", interval=2)),
}
"""


@pytest.fixture(scope="module")
def oracle():
    return runpy.run_path(str(ROOT / "scripts" / "experiments" / "oracle.py"))["main"]


@pytest.mark.slow
def test_no_schedule_found_is_worse_than_what_it_began_with(oracle, write_comparison, tmp_path, capsys):
    out = tmp_path / "oracle.md"
    assert oracle([str(write_comparison(SETTINGS)), "--rounds", "3", "--out", str(out)]) == 0
    assert "2 prompts" in out.read_text() and out.read_text().strip().endswith(capsys.readouterr().out.strip())
    found = json.loads(out.with_suffix(".json").read_text())
    assert [one["computed_steps"] for one in found] == [4, 6]
    for one in found:
        schedules = [one["static_schedule"], *one["video_schedules"]]
        assert all(len(s) == one["computed_steps"] and s[0] == 1 for s in schedules)
        assert all(b >= p for b, p in zip(one["video"], one["policy"], strict=True))
        assert fmean(one["video"]) >= fmean(one["static"]) and len(one["shared"]) == len(one["even"]) == 2


def test_without_a_budget_there_is_nothing_to_search(oracle, write_comparison, capsys):
    assert oracle([str(write_comparison('settings = {"e": dict(cache=dict(type="Static", interval=2))}\n'))]) == 2
    assert "has no ForecastCache with a speedup or computed_steps" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[[1, 2, 0.5], [1", "[[1, 2]]", '[[1, 2, "x"]]', "{", "3", "[" * 100_000])
def test_a_damaged_file_of_costs_is_named(write_comparison, tmp_path, content):
    comparison, (task, *_) = plan_tasks(load_comparison(write_comparison(SETTINGS)))
    path = costs_path(tmp_path, task)
    path.parent.mkdir()
    path.write_text(content)
    models = LoadedModels.__new__(LoadedModels)  # nothing is measured
    with pytest.raises(RecordError, match=f"^'{path}' holds no costs .*; delete it") as error:
        measure_costs(task, comparison.run, models, tmp_path)
    assert "\n" not in str(error.value)
