"""Gates of a GPU report against the stored one."""

import copy
import json
from pathlib import Path

import pytest

from opensora_adacache.benchmark.gpu_gates import failed_gates

STORED = json.loads((Path(__file__).parents[2] / "docs/results/gpu/h200.json").read_text(encoding="utf-8"))


def test_the_stored_report_passes_against_itself():
    assert list(failed_gates(STORED, STORED)) == []


@pytest.mark.parametrize(
    ("title", "name", "value", "expected"),
    [
        ("parity", "bfloat16 vectors, relative error", 0.02, "parity: bfloat16 vectors, relative error is 0.02"),
        ("parity", "with the same schedule", 7, "parity: 7 of 8 recorded runs"),
        ("step 720p, compiled", "ms", 800.0, "step 720p, compiled: ms is 800, but 655.2 is stored (1.22"),
        ("step 720p, compiled", "ms", float("nan"), "step 720p, compiled: ms is nan"),
        ("decoding", "peak GB", 9.0, "decoding: peak GB is 9"),
    ],
)
def test_one_worse_figure_fails_one_gate(title, name, value, expected):
    report = copy.deepcopy(STORED)
    report[title][name] = value
    (line,) = failed_gates(report, STORED)
    assert line.startswith(expected)


def test_times_of_another_device_are_not_compared():
    report = copy.deepcopy(STORED)
    report["device"]["device"] = "another"
    report["step 720p, compiled"]["ms"] = 9999.0
    assert list(failed_gates(report, STORED)) == []


def test_a_section_that_failed_or_was_skipped_fails_a_gate():
    report = {**STORED, "decoding": "failed: RuntimeError: no kernel"}
    assert list(failed_gates(report, STORED)) == ["decoding: failed: RuntimeError: no kernel"]
