"""The table of what works with which model: complete, of tests that exist, and shown by its page."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path

import pytest

from opensora_adacache.adapters.diffusers.models import MODELS
from opensora_adacache.errors.family import RecordError

ROOT = Path(__file__).parents[2]
TABLE = json.loads((Path(__file__).parent / "matrix.json").read_text(encoding="utf-8"))
SCRIPT = runpy.run_path(str(ROOT / "scripts/experiments/adapter_matrix.py"))
CELLS = {
    (column, model): SCRIPT["cell_of"](TABLE, column, model) for column in TABLE["columns"] for model in TABLE["models"]
}


def test_every_model_of_the_package_is_a_row():
    videos = {name for name in MODELS if name not in ("Flux2Transformer2DModel", "LatteT2V")}
    assert set(TABLE["models"].values()) == videos
    named = {model for cells in TABLE["columns"].values() for model in cells} - {"*"}
    assert named <= TABLE["models"].keys()


def test_no_cell_is_empty():
    assert len(CELLS) == len(TABLE["columns"]) * len(TABLE["models"])
    table = {**TABLE, "columns": {"adapter": {"Mochi": {"tested": ""}, "*": {}}}}
    with pytest.raises(RecordError, match="the cell 'adapter' of Latte must be one of tested, refused, not applicable"):
        SCRIPT["cell_of"](table, "adapter", "Latte")


def test_the_named_tests_exist():
    named = {cell.get("tested", cell.get("by")) for cell in CELLS.values()} - {None}
    for test in named:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, test


def test_what_is_refused_is_what_the_package_says():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "opensora_adacache/adapters").rglob("*.py"))
    words = "".join(part for part in sources.replace('"', "").split())
    for cell in CELLS.values():
        if "refused" in cell:  # the end of the message, which names no model
            end = "".join(cell["refused"].rpartition(":")[2].split())
            assert end.replace('"', "") in words.replace("f'", "'"), cell["refused"]


def test_the_page_shows_the_table():
    page = (ROOT / "docs/results/adapter_matrix.md").read_text(encoding="utf-8")
    assert page == SCRIPT["page"](TABLE), "run python scripts/experiments/adapter_matrix.py"
