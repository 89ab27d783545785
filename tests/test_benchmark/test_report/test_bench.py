"""Tables and page of a benchmark, without a browser. test_bench_page.py opens the page in one."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from opensora_adacache.benchmark.description import read_comparison
from opensora_adacache.benchmark.report import bench
from opensora_adacache.benchmark.report.bench import build_page, spread_prompts
from opensora_adacache.benchmark.results import read_results

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def command():
    return runpy.run_path(str(ROOT / "scripts" / "report.py"))["main"]


def test_the_command_writes_everything(command, bench_folder, capsys):
    assert command([str(bench_folder), "--title", "Mine & yours"]) == 0
    sheets = [
        f"contact_sheets/{setting.name}.png" for setting in read_comparison(bench_folder / "comparison.json").settings
    ]
    files = ["table.md", "table.csv", "table.tex", "index.html", *sheets]
    assert capsys.readouterr().out.split() == [str(bench_folder / name) for name in files] and len(sheets) == 3
    assert all((bench_folder / name).is_file() for name in files)
    html = (bench_folder / "index.html").read_text()
    assert html.count("data:video/mp4;base64,") == 9 and html.count("data:image/svg+xml;base64,") == 6
    assert "<title>Mine &amp; yours</title>" in html and "a &lt;blue&gt; square moves slowly" in html
    assert "a laptop" in html and "2026-01-02" in html and "Measured and quoted figures" in html
    assert "http:" not in html and "https:" not in html and "<link" not in html
    assert html.count('<i class="c"></i>') == 3 * (6 + 3 + 2)
    assert (bench_folder / "table.md").read_text().startswith("# Mine & yours")


def build(folder, rows, comparison, num_videos=None):
    return build_page(folder, rows, comparison, [], num_videos).decode()


def test_a_chosen_number_of_videos(bench_folder, rows, comparison):
    html = build(bench_folder, rows, comparison, num_videos=2)
    assert html.count("data:video/mp4;base64,") == 6 and "2 of 3 prompts" in html
    html = build(bench_folder, rows, comparison, num_videos=0)
    assert (
        "data:video" not in html and "This page embeds no videos" in html and "player" not in html.split("<script>")[1]
    )
    assert html == build(bench_folder, rows, comparison, num_videos=0)


def test_the_page_stays_small(bench_folder, rows, comparison, monkeypatch):
    size = len(build(bench_folder, rows, comparison, num_videos=1).encode())
    # room for the videos of a second prompt, not for their captions and strips
    video_bytes = sum(path.stat().st_size for path in (bench_folder / "videos").glob("*-0001-0.mp4"))
    monkeypatch.setattr(bench, "PAGE_BYTES", size + video_bytes * 4 // 3 + 100)
    html = build(bench_folder, rows, comparison)
    assert html.count("data:video/mp4;base64,") == 3 and len(html.encode()) < bench.PAGE_BYTES
    monkeypatch.setattr(bench, "PAGE_BYTES", 1000)
    assert "This page embeds no videos" in build(bench_folder, rows, comparison)


def test_first_prompts_show_every_motion_class(make_row):
    motions = ("still", "still", "still", "fast", "slow", "fast")
    rows = [make_row(index=index, motion=motion) for index, motion in enumerate(motions)]
    assert [index for index, _ in spread_prompts(rows)] == [0, 3, 4, 1, 5, 2]


def test_an_interrupted_comparison(bench_folder):
    path = bench_folder / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    html = build(bench_folder, read_results(path), read_comparison(bench_folder / "comparison.json"))
    assert "Unfinished, with fewer than 3 videos: Δ_best" in html and html.count("data:video/mp4;base64,") == 8


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "results.jsonl").unlink(), "has neither results.jsonl nor run.json: name the folder"),
        (lambda folder: (folder / "results.jsonl").write_text(""), "no result yet"),
        (lambda folder: (folder / "results.jsonl").write_text("a,b\n"), "line 1 is not a result"),
        (lambda folder: (folder / "comparison.json").unlink(), "comparison.json' does not exist"),
    ],
)
def test_bad_input_is_one_line(command, bench_folder, spoil, message, capsys):
    spoil(bench_folder)
    assert command([str(bench_folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_a_video_that_is_gone(bench_folder, rows, comparison):
    (bench_folder / "videos" / "oracle-0002-0.mp4").unlink()
    for num_videos in (None, 3):
        with pytest.raises(FileNotFoundError, match="oracle-0002-0.mp4' is listed in results.jsonl but does not exist"):
            build(bench_folder, rows, comparison, num_videos)


def test_a_negative_number_of_videos(command, bench_folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        command([str(bench_folder), "--num-videos", "-1"])
    assert "--num-videos must be 0 or more, got -1" in capsys.readouterr().err
