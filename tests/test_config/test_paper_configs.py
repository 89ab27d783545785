"""The configs of the paper's tables: each loads, and names rows that the paper prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensora_adacache.benchmark.config import is_comparison, load_comparison
from opensora_adacache.benchmark.paper import find_table

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted((FOLDER / "paper").glob("*.py"))
# Tables of other models -> their checkpoint
PIPELINES = {"table1_latte": "maxin-cn/Latte-1", "table1_open_sora_plan": "LanguageBind/Open-Sora-Plan-v1.1.0"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_rows_of_the_paper_exist(path):
    comparison = load_comparison(path)
    assert comparison.paper is not None
    if path.stem in PIPELINES:
        assert comparison.run.pipeline.from_pretrained == PIPELINES[path.stem]
    else:
        assert comparison.run.model.type == "STDiT3-XL/2"
    table = find_table(comparison.paper)
    assert "baseline" in table.rows
    named = [setting.paper for setting in comparison.settings if setting.paper is not None]
    assert named and len(set(named)) == len(named) and all(table.row(name) for name in named)
    configs = [comparison.run, *(setting.config for setting in comparison.settings)]
    assert len({(config.image_size, config.num_frames, config.num_sampling_steps) for config in configs}) == 1


def test_there_is_one_for_every_table():
    names = {path.stem.split("_")[0] for path in CONFIGS}
    assert names == {"table1", "ablation", "resolution", "multi"} and len(CONFIGS) == 12


def test_every_table_has_one_at_embedded_size():
    """The counterpart of Table 1 is compare.py. The rows of the paper are the same. Other models have none."""
    of_no_table = "measured"  # the bundled model alone
    tables = {
        path.stem: load_comparison(path)
        for path in (FOLDER / "scenes").glob("*.py")
        if is_comparison(path) and path.stem != of_no_table
    }
    tables["table1_open_sora"] = tables.pop("compare")
    of_open_sora = [path for path in CONFIGS if path.stem not in PIPELINES]
    assert tables.keys() == {path.stem for path in of_open_sora}
    for path in of_open_sora:
        published, embedded = load_comparison(path), tables[path.stem]
        assert embedded.paper == published.paper and embedded.run.model.type == "STDiT3"
        rows = [{s.paper for s in comparison.settings} - {None} for comparison in (published, embedded)]
        assert rows[0] == rows[1], path.stem
