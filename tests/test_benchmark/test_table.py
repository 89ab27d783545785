"""Tables from rows, with values worked out by hand."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from opensora_adacache.benchmark.description import SettingRecord
from opensora_adacache.benchmark.summary import summarize
from opensora_adacache.benchmark.table import build_tables, notes
from opensora_adacache.benchmark.table_files import escape_latex, write_csv, write_latex, write_markdown
from opensora_adacache.metrics.bootstrap import Interval, bootstrap_interval


def test_a_setting_by_hand(make_row, make_baseline_row, comparison):
    rows = [make_baseline_row(index=i, loop_s=loop, tflops=10.0) for i, loop in ((0, 2.0), (1, 6.0), (2, 100.0))]
    rows += [
        make_row(index=0, loop_s=1.0, tflops=4.0, psnr=30.0, motion="still", checks={"colour": [1, 2]}, flicker=1.0),
        make_row(index=1, loop_s=3.0, tflops=1.0, psnr=20.0, motion="fast", checks={"colour": [2, 2]}, flicker=None),
    ]
    base, cached = summarize(rows, comparison)
    # prompt 2 is not finished, so the baseline's 100 s are left out
    assert cached.speedup == pytest.approx((2 + 6) / (1 + 3)) and cached.flop_speedup == pytest.approx(20 / 5)
    assert cached.efficiency == pytest.approx(2 / 4)
    assert cached.num_videos == 2 and cached.loop_s == 2.0 and cached.tflops == 2.5
    assert cached.psnr == bootstrap_interval([30.0, 20.0]) and cached.psnr.mean == 25
    assert cached.lpips is None and cached.checks == {"colour": 0.75}
    assert list(cached.by_motion) == ["still", "fast"]
    assert cached.by_motion["still"].flicker == 1.0 and cached.by_motion["fast"].flicker is None
    assert base.psnr is None and base.speedup == 1.0 and base.num_videos == 3


def test_computed_steps_of_a_motion_class_have_an_interval(make_row, make_baseline_row, comparison):
    rows = [make_baseline_row(index=i) for i in range(3)]
    rows += [make_row(index=i, computed_steps=steps, motion="fast") for i, steps in enumerate((10, 12, 17))]
    cached = summarize(rows, comparison)[1]
    assert cached.by_motion["fast"].computed_steps == bootstrap_interval([10, 12, 17])
    content = build_tables([cached], comparison)[-1]
    place = [column.key for column in content.columns].index("steps_fast")
    assert content.lines[0].cells[place].full_text == "13.00 [10.00, 17.00]"
    same = replace(
        cached, by_motion={"fast": replace(cached.by_motion["fast"], computed_steps=Interval(9.0, 9.0, 9.0))}
    )
    assert build_tables([same], comparison)[-1].lines[0].cells[place].full_text == "9.00"


def test_seeds_of_a_prompt_are_drawn_together(make_row, make_baseline_row, comparison):
    rows = [make_baseline_row(index=i, seed=s) for i in (0, 1) for s in (0, 1)]
    rows += [make_row(index=i, seed=s, psnr=20.0 + 10 * i + s) for i in (0, 1) for s in (0, 1)]
    interval = summarize(rows, comparison)[1].psnr
    assert interval == bootstrap_interval([20.0, 21.0, 30.0, 31.0], clusters=[0, 0, 1, 1])
    # of two prompts drawn twice, one alone is the extreme
    assert (interval.low, interval.high) == (20.5, 30.5)


def test_rows_that_cannot_be_summarized(make_row, comparison):
    with pytest.raises(ValueError, match="no result yet"):
        summarize([], comparison)
    with pytest.raises(ValueError, match="'other' has results but is not in comparison.json"):
        summarize([make_row(setting="other")], comparison)
    alone = summarize([make_row()], comparison)
    assert alone[0].speedup is None and alone[0].flop_speedup is None


@pytest.fixture
def tables(rows, comparison):
    return build_tables(summarize(rows, comparison), comparison)


def test_quoted_rows_stand_beside_ours(tables):
    quality = tables[0]
    assert [column.title for column in quality.columns] == [
        *("VBench (%)", "PSNR (dB)", "LPIPS", "SSIM", "FLOPs (T)", "Latency (s)", "Speedup")
    ]
    assert [[(line.title, line.source) for line in group] for group in quality.groups] == [
        [("Baseline", "measured"), ("baseline", "quoted")],
        [("AdaCache & co", "measured"), ("AdaCache-fast", "quoted")],
        [("Δ_best", "oracle")],
        [("PAB-fast", "quoted")],
    ]
    quoted = quality.groups[1][1]
    assert [cell.text for cell in quoted.cells] == ["79.39", "24.92", "0.0981", "0.8375", "1331.97", "24.16", "2.24"]
    measured = quality.groups[1][0].cells
    assert measured[0].text == "" and measured[1].value == pytest.approx(25.0) and "[" in measured[1].full_text
    assert [table.key for table in tables] == ["quality", "cost", "content"]


def test_a_table_without_checks_or_motion(rows, comparison):
    plain = [replace(row, checks=None, motion=None) for row in rows]
    assert [table.key for table in build_tables(summarize(plain, comparison), comparison)] == ["quality", "cost"]


def test_notes_say_where_figures_come_from(rows, comparison):
    text = "\n".join(notes(summarize(rows, comparison), comparison))
    assert "a laptop, 2026-01-02, torch 2.13.0, 3 prompts × 1 seed" in text
    assert "copied from arXiv 2411.02397v2" in text and "LPIPS is empty: no weights." in text
    assert "Unfinished" not in text
    unfinished = "\n".join(notes(summarize(rows[:-1], comparison), comparison))
    assert "Unfinished, with fewer than 3 videos: Δ_best." in unfinished


def test_markdown(tmp_path, tables, rows, comparison):
    facts = notes(summarize(rows, comparison), comparison)
    write_markdown(tmp_path / "table.md", tables, comparison, facts)
    lines = (tmp_path / "table.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| AdaCache & co | measured"))
    assert re.search(r"\| – \| 25\.00 \[[\d.]+, [\d.]+\] \| – \|", row)
    assert any(line.startswith("| Δ\\_best | oracle |") for line in lines)
    widths = {line.count(" | ") for line in lines[4:12] if line.startswith("|")}
    assert widths == {8}


def test_csv_holds_full_figures(tmp_path, tables, comparison):
    write_csv(tmp_path / "table.csv", tables, comparison)
    base, _, cached, quoted, *_ = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert (cached["setting"], cached["source"]) == ("adacache-fast", "measured")
    assert (cached["machine"], cached["date"]) == ("a laptop", "2026-01-02")
    assert float(cached["psnr_low"]) <= float(cached["psnr"]) <= float(cached["psnr_high"])
    assert float(cached["computed_steps"]) == 3.0 and float(cached["colour"]) == 50.0
    assert quoted["tflops"] == "1331.97" and quoted["computed_steps"] == "" and base["psnr"] == ""


def test_settings_of_one_title_stay_apart_in_csv(tmp_path, rows, comparison):
    settings = tuple(replace(setting, title="same") for setting in comparison.settings)
    alike = replace(comparison, settings=settings, paper_rows=())
    write_csv(tmp_path / "table.csv", build_tables(summarize(rows, alike), alike), alike)
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 3


def test_latex(tmp_path, tables, rows, comparison):
    facts = notes(summarize(rows, comparison), comparison)
    write_latex(tmp_path / "table.tex", tables, comparison, facts)
    text = (tmp_path / "table.tex").read_text()
    assert r"AdaCache \& co & measured & -- & 25.00 {[}" in text
    assert r"$\Delta$\_best & oracle" in text
    for table in tables:
        assert rf"\begin{{tabular}}{{ll{'r' * len(table.columns)}}}" in text
    for line in text.splitlines():
        if line.endswith(r" \\"):
            assert len(re.findall(r"(?<!\\)&", line)) in {1 + len(table.columns) for table in tables}
    assert text.count(r"\begin{") == text.count(r"\end{") == 2 * len(tables)
    assert not re.search(r"(?<!\\)[%#_](?!\n|$)", text.split("\n", 1)[1].replace("{!}{%", ""))


def test_everything_that_latex_reads_is_escaped():
    assert escape_latex("\\ ~^{}$#_&%") == (r"\textbackslash{} \textasciitilde{}\textasciicircum{}\{\}\$\#\_\&\%")
    assert escape_latex("3\n× <a> [b]") == r"3 $\times$ \textless{}a\textgreater{} {[}b{]}"


def test_an_unknown_paper_name_is_no_row(rows, comparison):
    settings = (
        *comparison.settings[:2],
        SettingRecord("oracle", "Δ_best", "oracle-video", paper="not there", oracle=True),
    )
    tables = build_tables(
        summarize(rows, replace(comparison, settings=settings)), replace(comparison, settings=settings)
    )
    assert [line.title for line in tables[0].groups[2]] == ["Δ_best"]
