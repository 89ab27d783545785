"""The command that prints what a run costs."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def plan():
    return runpy.run_path(str(ROOT / "scripts" / "plan.py"))["main"]


def test_published_sizes_cost_what_the_reference_costs(plan, capsys):
    configs = [str(ROOT / "configs" / name) for name in ("sample_30steps.py", "sample_adacache.py")]
    assert plan([*configs, "--json"]) == 0
    small, large = json.loads(capsys.readouterr().out)
    assert (small["tokens"], large["tokens"]) == (15 * 30 * 53, 15 * 45 * 80)
    assert (small["cache_gb_block"], large["cache_gb_block"]) == pytest.approx((12.3, 27.9), abs=0.05)
    assert (small["cache_gb_stack"], large["cache_gb_stack"]) == pytest.approx((0.22, 0.50), abs=0.005)
    assert small["tflops_run"] == pytest.approx(3230.24, rel=0.05)
    assert small["tflops_run"] == pytest.approx(30 * small["tflops_step"])


def test_the_table_has_a_row_per_config(plan, capsys):
    assert plan([str(ROOT / "configs" / "sample_30steps.py")]) == 0
    header, row, *_ = capsys.readouterr().out.splitlines()
    assert header.index("tokens") == row.index("23850")
    assert "480x854x51" in row


def test_a_missing_config_is_one_line(plan, capsys):
    assert plan(["configs/none.py"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: config 'configs/none.py' does not exist") and error.count("\n") == 1
