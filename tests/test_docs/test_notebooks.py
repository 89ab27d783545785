"""The tutorial notebooks run, and print what they were saved with."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))
VARIES = re.compile(r"[\d.e+-]+|[#.]+|\s+")
"""Numbers and schedules, which differ between processors in their last digits, and the spaces that align them."""


def printed(cells) -> list[str]:
    return [VARIES.sub("", "".join(map("".join, (o["text"] for o in cell.get("outputs", ()))))) for cell in cells]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the libraries that start the kernel
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    execute = runpy.run_path(str(ROOT / "scripts/site/execute.py"))["execute"]
    executed = execute(path, tmp_path)
    assert printed(executed.cells) == printed(json.loads(path.read_text(encoding="utf-8"))["cells"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_saved_with_printed_text_alone(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert any(cell["outputs"] for cell in code)
    assert all(cell["execution_count"] is None and not cell["metadata"] for cell in code)
    assert {output.get("name") for cell in code for output in cell["outputs"]} == {"stdout"}
    assert path.stat().st_size < 30_000


def test_there_is_a_notebook_for_each_task():
    assert [path.stem for path in NOTEBOOKS] == ["attach", "calibrate", "policy", "trace"]
