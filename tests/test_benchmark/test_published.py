"""Rows quoted from other papers, and the page made from them."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

from opensora_adacache.benchmark.published import READINGS, published_rows, published_sources

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/experiments/published_rows.py"))


def test_the_page_shows_the_data():
    page = (ROOT / "docs/results/published.md").read_text(encoding="utf-8")
    assert page == SCRIPT["page"](), "run python scripts/experiments/published_rows.py"
    assert "None was measured here" in page


def test_rows_stand_from_the_largest_speedup_down():
    speedups = [each.row.speedup for each in published_rows()]
    printed = [speedup for speedup in speedups if speedup is not None]
    assert printed == sorted(printed, reverse=True) and printed[0] == 2.54
    assert speedups[len(printed) :] == [None]  # Δ-DiT in the AdaCache paper


def test_every_row_has_a_source_that_says_how_it_was_read():
    sources = published_sources()
    assert {each.by for each in published_rows()} == sources.keys()
    assert {source.read for source in sources.values()} <= READINGS.keys()


def test_disagreeing_papers_both_stand():
    rows = published_rows()
    assert Counter(each.row.method for each in rows)["TeaCache-slow"] == 3
    pab = {
        each.by: (each.row.speedup, each.row.vbench, each.row.psnr) for each in rows if each.row.method == "PAB-slow"
    }
    assert pab == {"TeaCache": (1.33, 77.64, 24.5), "AdaCache": (1.2, 78.51, 27.04)}


def test_speedups_are_those_of_the_seconds():
    sources = published_sources()
    for each in published_rows():
        baseline = sources[each.by].baseline_s
        if baseline and each.row.latency_s and each.row.speedup:
            assert abs(baseline / each.row.latency_s - each.row.speedup) < 0.01, each
