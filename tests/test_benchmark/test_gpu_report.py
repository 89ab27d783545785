"""The report of a GPU, as a dry run on the CPU."""

from __future__ import annotations

import json

import pytest

from opensora_adacache.benchmark.gpu_report import GpuReport


def test_a_spent_budget_skips_what_is_left(data_folder, tmp_path):
    report = GpuReport(tmp_path / "out.json", data_folder, tiny=True, budget=-1)
    results = report.run()
    assert set(results.values()) == {"skipped: the budget of -1 s was spent"} and "loop tiny, compiled" in results
    assert json.loads((tmp_path / "out.json").read_text()) == results
    assert "| loop tiny, compiled |  | skipped" in (tmp_path / "out.md").read_text()
    assert report.measure_device()["large product, TFLOP/s"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of modules that inductor imports
def test_a_dry_run_measures_every_section(data_folder, tmp_path):
    results = GpuReport(tmp_path / "out.json", data_folder, tiny=True).run()
    assert not {name: figures for name, figures in results.items() if isinstance(figures, str)}
    assert results["parity"]["with the same schedule"] == results["parity"]["recorded runs"] > 0
    loop = results["loop tiny, compiled"]
    assert 0 < loop["computed"] < loop["steps"] and loop["idle, fraction of five steps"] is None
    assert "padded text, ms" in results["step tiny, eager"] and "ms" in results["step tiny, compiled"]
