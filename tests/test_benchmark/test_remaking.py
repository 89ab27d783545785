"""Settings of a benchmark are forgotten by name, with the scaled thresholds that held them to their budgets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opensora_adacache.benchmark.description import SettingRecord, read_comparison, write_comparison
from opensora_adacache.benchmark.remaking import forget, matching_settings
from opensora_adacache.benchmark.results import append_result, read_results

NAMES = ("fbcache-2x", "fbcache-3x", "l2p-2x")


@pytest.fixture
def folder(tmp_path, comparison, make_row, make_baseline_row):
    """A benchmark of two prompts, in which a scaled threshold holds FBCache to a speedup of 2."""
    settings = [SettingRecord("baseline", "Baseline", "baseline")]
    settings += [SettingRecord(name, name, name.partition("-")[0]) for name in NAMES]
    settings.append(SettingRecord("fbcache-2x.x1.2", "FBCache", "fbcache", held_for="fbcache-2x", factor=1.2))
    runs = {one.name: {"cache": one.policy} for one in settings}
    write_comparison(tmp_path / "comparison.json", replace(comparison, settings=tuple(settings), runs=runs))
    for index in range(2):
        append_result(tmp_path / "results.jsonl", make_baseline_row(index=index))
        for one in settings[1:]:
            append_result(tmp_path / "results.jsonl", make_row(setting=one.name, index=index))
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "forgotten"),
    [
        (["l2p-2x"], ["l2p-2x"]),
        (["fbcache-2x"], ["fbcache-2x", "fbcache-2x.x1.2"]),
        (["fbcache-*", "l2p-?x"], [*NAMES, "fbcache-2x.x1.2"]),
    ],
)
def test_rows_and_settings_of_these_names_go(folder, patterns, forgotten):
    before = read_results(folder / "results.jsonl")
    assert matching_settings(read_comparison(folder / "comparison.json").settings, patterns) == forgotten
    forget(folder, forgotten)
    assert read_results(folder / "results.jsonl") == [row for row in before if row.setting not in forgotten]
    record = read_comparison(folder / "comparison.json")
    assert [one.name for one in record.settings] == list(record.runs)
    assert not {*record.runs} & {*forgotten} and len(record.runs) == 5 - len(forgotten)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("l2b-*", "names no setting of .*, which has baseline, fbcache-2x, fbcache-3x, l2p-2x$"), ("b*", "the baseline")],
)
def test_mistakes(folder, pattern, message):
    with pytest.raises(ValueError, match=message):
        matching_settings(read_comparison(folder / "comparison.json").settings, ["l2p-2x", pattern])
