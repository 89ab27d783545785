"""Settings with a budget are held to it by thresholds around it, in the runner and in the tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from opensora_adacache.benchmark.budgets import Point, by_setting, hold, next_factor, scaled
from opensora_adacache.benchmark.config import load_comparison
from opensora_adacache.benchmark.description import SettingRecord, read_comparison
from opensora_adacache.benchmark.results import read_results
from opensora_adacache.benchmark.runner import ComparisonRun
from opensora_adacache.caching.registry import config_class

SETTINGS = """
batch_size = 2
keep_videos = False
settings = {
    "fbcache-2x": dict(cache=dict(type="FBCache", threshold=0.02, decision="sample"), budget=4),
    "every-2": dict(cache=dict(type="Static", interval=2), budget=5),
}
"""


@pytest.mark.slow
def test_thresholds_are_added_until_the_budget_lies_between_two(write_comparison, tmp_path):
    """The run is interrupted between the two thresholds and resumed; a third run makes nothing."""
    path, out = write_comparison(SETTINGS), tmp_path / "out"
    run = ComparisonRun(load_comparison(path), out, None, "test")
    assert run.num_missing == 6
    run.run()
    record, rows = read_comparison(out / "comparison.json"), read_results(out / "results.jsonl")
    added = [one for one in record.settings if one.held_for]
    assert added and {one.held_for for one in added} == {"fbcache-2x"}  # every-2 has no threshold
    assert record.batch_size == 2 and all(row.video is None and row.psnr_mp4 is None for row in rows)
    held = hold(record.settings[1], record.settings, by_setting(rows))
    steps = [held.expected(key, "steps") for key in held.keys if key not in held.exact]
    assert sum(steps) / len(steps) == pytest.approx(4, abs=0.25)
    # FBCache runs its first block at skipped steps too
    assert all(8 > row.work > row.computed_steps for _, row in held.parts(held.keys[0]))
    again = ComparisonRun(load_comparison(path), out, None, "test")
    assert again.num_missing == 0 and [s.name for s in again.comparison.settings] == [
        s.name for s in run.comparison.settings
    ]
    # rows of a scaled threshold are made again if they are lost
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["setting"] != added[-1].name]
    (out / "results.jsonl").write_text("".join(kept))
    assert ComparisonRun(load_comparison(path), out, None, "test").num_missing == len(lines) - len(kept) == 2


@pytest.mark.parametrize(
    ("found", "factor"),
    [
        ([Point("a", 1.0, 9.2)], None),
        ([Point("a", 1.0, 10.0), Point("b", 2.0, 8.0)], None),
        # aims 0.4 + 0.2 · 2 steps beyond 9, with steps in proportion to the inverse root of the threshold
        ([Point("a", 1.0, 11.0)], 1.8),
        ([Point("a", 1.0, 7.0)], 0.5102),
        # two points give a slope of −1 in logarithms
        ([Point("a", 1.0, 24.0), Point("b", 2.0, 12.0)], 3.0),
        # further scaling would change nothing
        ([Point("a", 1.0, 9.6), Point("b", 2.0, 9.6)], None),
        # exact videos are no end of a draw
        ([Point("a", 1.0, 30.0, is_exact=True), Point("b", 2.0, 8.0)], 1.818),
        # nor is the same threshold tried twice
        ([Point("a", 1.0, 7.0), Point("b", 0.9, 8.0), Point("c", 0.7794, 30.0, is_exact=True)], None),
    ],
)
def test_the_next_threshold_for_nine_steps(found, factor):
    assert next_factor(found, 9.0) == factor


def test_all_thresholds_of_a_policy_are_scaled():
    codebook = config_class("AdaCache")({0.1: 4, 1.0: 1})
    assert scaled(codebook, 0.5).codebook == {0.05: 4, 0.5: 1}
    assert scaled(config_class("ForecastCache")(tolerance=0.02), 3).tolerance == 0.06


def test_a_draw_between_two_thresholds(make_row):
    """One video is exact with the upper threshold and is left out: the others take 4 and 2 steps, or 5 and 4."""
    lower, upper = (SettingRecord("a-2x", "a", "a", budget=4.0), SettingRecord("a-2x.x2", "a", "a", held_for="a-2x"))
    rows = [
        *(
            make_row(setting="a-2x", index=i, computed_steps=s, psnr=p)
            for i, s, p in ((0, 4, 30), (1, 2, 20), (2, 5, 40))
        ),
        *(
            make_row(setting="a-2x.x2", index=i, computed_steps=s, psnr=p)
            for i, s, p in ((0, 5, 36), (1, 4, 32), (2, 6, 100))
        ),
    ]
    held = hold(lower, [lower, replace(upper, factor=0.5)], by_setting(rows))
    assert held.exact == {(2, 0)} and held.weight == pytest.approx((4 - 3) / (4.5 - 3))
    assert held.expected((0, 0), "psnr") == pytest.approx(30 / 3 + 36 * 2 / 3)
    assert [held.expected((i, 0), "computed_steps") for i in (0, 1)] == pytest.approx([14 / 3, 10 / 3])  # 4 on average
    with pytest.raises(ValueError, match="a video without lpips"):
        held.expected((0, 0), "lpips")
    alone = hold(lower, [lower], by_setting(rows))
    assert alone.weight == 1 and alone.lower is alone.upper
