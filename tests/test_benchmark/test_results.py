"""Result rows and comparison.json: writing, reading, interrupted writes, files of another kind."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from opensora_adacache.benchmark.description import (
    ComparisonRecord,
    PaperRow,
    SettingRecord,
    read_comparison,
    write_comparison,
)
from opensora_adacache.benchmark.results import append_result, read_results


def test_rows_come_back(tmp_path, make_row):
    path = tmp_path / "new" / "results.jsonl"
    rows = [make_row(index=0), make_row(index=1, motion=None, checks=None, psnr=None, prompt="a “red” circle\u2028\n")]
    for row in rows:
        append_result(path, row)
    assert read_results(path) == rows


@pytest.mark.parametrize("length", [1, 40, -1])
def test_an_interrupted_line_is_dropped_and_replaced(tmp_path, make_row, length):
    path = tmp_path / "results.jsonl"
    append_result(path, make_row(index=0))
    whole = path.read_bytes()
    append_result(path, make_row(index=1))
    second = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + second[:length])
    assert [row.index for row in read_results(path)] == [0]
    append_result(path, make_row(index=2))
    assert [row.index for row in read_results(path)] == [0, 2]


def test_an_interrupted_first_line(tmp_path, make_row):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"policy": "ada')
    assert read_results(path) == []
    append_result(path, make_row())
    assert len(read_results(path)) == 1


def changed(line: str, **values: object) -> str:
    content = json.loads(line) | values
    return json.dumps({key: value for key, value in content.items() if value != "gone"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda line: "prompt,psnr", "line 2 is not a result .not JSON"),
        (lambda line: "[1]", "not a JSON object"),
        (lambda line: changed(line, loop_s="gone"), "'loop_s' is missing"),
        (lambda line: changed(line, colour="red"), "'colour' is unknown"),
        (lambda line: changed(line, seed="7"), "'seed' must be a whole number, got '7'"),
        (lambda line: changed(line, schedule="#."), "schedule must hold 6 steps, got 2"),
        (
            lambda line: changed(line, motion="quick"),
            "motion must be one of still, very slow, slow, steady, fast, very fast or None, got 'quick'",
        ),
        (lambda line: changed(line, loop_s=0), "loop_s must be above 0"),
        (lambda line: changed(line, version=2), "format has version 2, this package reads version 1"),
        (lambda line: changed(line, psnr="25"), "'psnr' must be a finite number, got '25'"),
        (lambda line: changed(line, flicker=float("nan")), "'flicker' must be a finite number, got nan"),
        (lambda line: changed(line, loop_s=True), "'loop_s' must be a finite number, got True"),
        (lambda line: changed(line, index=10**400), "'index' must be a whole number"),
        (lambda line: changed(line, distances=[None, "x"] * 3), "'distances'.1. must be a finite number, got 'x'"),
        (lambda line: changed(line, checks={"colour": [2, 1]}), "checks.'colour'. must be .right, asked., got .2, 1"),
        (lambda line: changed(line, checks=[1]), "'checks' must be a dict"),
        (lambda line: changed(line, title=None), "'title' must be a string, got None"),
        (lambda line: "[" * 100_000, "line 2 is not a result .not JSON"),
        (lambda line: line, "lines 1 and 2 hold the same video"),
    ],
)
def test_a_file_of_another_kind(tmp_path, make_row, spoil, message):
    path = tmp_path / "results.jsonl"
    append_result(path, make_row())
    line = path.read_text().strip()
    path.write_text(f"{line}\n{spoil(line)}\n")
    with pytest.raises(ValueError, match=message) as error:
        read_results(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "video",
    [
        "../../../etc/hostname",
        "/etc/hostname",
        "a/../../b.mp4",
        "..",
        "",
        ".",
        "C:\\Users\\x.mp4",
        "..\\x.mp4",
        "\\\\host\\x",
    ],
)
def test_videos_stay_inside_the_folder(make_row, video):
    with pytest.raises(ValueError, match="video must name a file inside the folder of the results"):
        make_row(video=video)


@pytest.mark.parametrize("place", ["file", "folder", "inside"])
def test_links_stay_inside_the_folder(tmp_path, make_row, place):
    folder, row = tmp_path / "results", make_row(video="videos/a.mp4")
    folder.mkdir()
    (tmp_path / "a.mp4").write_text("secret")
    if place == "folder":
        (folder / "videos").symlink_to(tmp_path)
    else:
        (folder / "videos").mkdir()
        if place == "inside":
            (folder / "b.mp4").touch()
        target = tmp_path / "a.mp4" if place == "file" else folder / "b.mp4"
        (folder / "videos" / "a.mp4").symlink_to(target)
    (tmp_path / "elsewhere").symlink_to(folder)  # the folder itself may be reached by a link
    if place == "inside":
        assert row.video_in(tmp_path / "elsewhere").read_bytes() == b""
    else:
        with pytest.raises(ValueError, match="is a link out of the folder of the results"):
            row.video_in(folder)


def test_what_cannot_be_stored_or_found(tmp_path, make_row):
    with pytest.raises(ValueError, match="prompt 0, is not finite; store None"):
        append_result(tmp_path / "results.jsonl", make_row(psnr=float("inf")))
    assert not (tmp_path / "results.jsonl").exists()
    with pytest.raises(FileNotFoundError, match="name a folder that opensora-adacache compare wrote"):
        read_results(tmp_path / "results.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write"):
        append_result(tmp_path / "file" / "results.jsonl", make_row())


def test_a_comparison_comes_back(tmp_path, comparison):
    path = tmp_path / "comparison.json"
    write_comparison(path, comparison)
    assert read_comparison(path) == comparison
    write_comparison(path, replace(comparison, paper=None, paper_rows=()))
    assert read_comparison(path).paper_rows == ()


def test_files_from_before_the_version_field_are_read(tmp_path, comparison, make_row):
    path = tmp_path / "comparison.json"
    write_comparison(path, comparison)
    path.write_text(changed(path.read_text(), version="gone"))
    assert read_comparison(path) == comparison
    rows = tmp_path / "results.jsonl"
    append_result(rows, make_row())
    rows.write_text(changed(rows.read_text(), version="gone") + "\n")
    assert read_results(rows) == [make_row()]
    path.write_text(changed(path.read_text(), version=2))
    with pytest.raises(ValueError, match="format has version 2, this package reads version 1"):
        read_comparison(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "does not describe a comparison"),
        ('{"settings": []}', "'config' is missing"),
        ('{"settings": [{"name": "a"}]}', "'title' is missing"),
        ('{"settings": [1]}', "expected an object, got 1"),
        ('{"settings": {}}', r"'settings' must be a list, got \{\}"),
        ('{"settings": [{"name": ["a"], "title": "A", "policy": "pab"}]}', r"'name' must be a string, got \['a'\]"),
        ('{"settings": [], "paper_rows": [{"method": "PAB", "speedup": "2x"}]}', "'speedup' must be .*, got '2x'"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_comparison_of_another_kind(tmp_path, content, message):
    path = tmp_path / "comparison.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_comparison(path)
    assert "\n" not in str(error.value)


def test_settings_of_one_name():
    twice = (SettingRecord("a", "A", "static"), SettingRecord("a", "B", "static"))
    with pytest.raises(ValueError, match="names of settings must differ, got 'a' twice"):
        ComparisonRecord("c", "c", "m", "d", "t", 1, 1, "T", twice, None, (PaperRow("x"),))
