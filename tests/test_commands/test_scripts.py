"""Every script: help, and arguments that it cannot read."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


@pytest.fixture(scope="module")
def mains():
    """The main function of each script, in this process: starting each anew would take minutes."""
    return {name: runpy.run_path(str(ROOT / "scripts" / name))["main"] for name in SCRIPTS}


def status_of(main, arguments):
    try:
        return main(arguments)
    except SystemExit as stopped:
        return stopped.code


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(mains, script, capsys):
    assert status_of(mains[script], ["--help"]) == 0
    out, errors = capsys.readouterr()
    assert not errors and out.startswith("usage: ") and "``" not in out


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: an empty folder in it, and files of no kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("binary", "binary.py", "binary.json"):
        (tmp_path / name).write_bytes(bytes(range(256)))
    return tmp_path


def check_one_line(main, arguments, folder, capsys):
    """Status 2, one line, and nothing was made."""
    assert status_of(main, arguments) == 2
    out, errors = capsys.readouterr()
    assert errors.startswith("error: ") and errors.count("\n") == 1 and not out, errors
    assert sorted(path.name for path in folder.iterdir()) == ["binary", "binary.json", "binary.py", "folder"]


@pytest.mark.parametrize(
    "argument", ["", "gone", "gone.py", "folder", "binary", "binary.py", "binary.json", "--nonsense"]
)
@pytest.mark.parametrize("script", SCRIPTS)
def test_arguments_that_cannot_be_read_are_one_line(mains, script, argument, folder, capsys):
    check_one_line(mains[script], [argument], folder, capsys)


# what each script needs beside its file
MORE = {
    "calibrate.py": ["--speedup", "2", "--policy", "static"],
    "calibrate_pipeline.py": ["--speedup", "2", "--num-sampling-steps", "8"],
    "replay.py": ["--codebook", "binary.json"],
    "upstream_inference.py": ["config.py"],
}


@pytest.mark.parametrize("argument", ["", "gone", "folder", "binary", "binary.py"])
@pytest.mark.parametrize("script", MORE)
def test_the_file_is_wrong_and_all_else_is_given(mains, script, argument, folder, capsys):
    if script == "calibrate_pipeline.py" and argument == "gone":
        pytest.skip("a name that is no folder is looked for on the hub")
    check_one_line(mains[script], [argument, *MORE[script]], folder, capsys)


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (
            "calibrate.py",
            ["a.py", "--speedup", "2", "--limit", "0"],
            "argument --limit: expected a whole number of at least 1, got '0'",
        ),
        (
            "calibrate.py",
            ["a.py", "--speedup", "2", "--limit", "-1"],
            "argument --limit: expected a whole number of at least 1, got '-1'",
        ),
        ("calibrate.py", ["a.py", "--speedup", "nan"], "--speedup must be a number of at least 1, got nan"),
        ("calibrate.py", ["a.py", "--speedup", "2", "inf"], "--speedup must be a number of at least 1, got inf"),
        (
            "calibrate.py",
            ["scenes/sample_adacache", "--speedup", "2", "31"],
            "--speedup 31 is out of reach: a run of 30",
        ),
        ("calibrate.py", ["a.py", "--psnr", "0"], "--psnr must be above 0, got 0.0"),
        (
            "calibrate_pipeline.py",
            ["m", "--num-sampling-steps", "8", "--speedup", "nan"],
            "expected a number of at least 1, got 'nan'",
        ),
        (
            "calibrate_pipeline.py",
            ["m", "--num-sampling-steps", "0", "--speedup", "2"],
            "expected a whole number of at least 1, got '0'",
        ),
        ("calibrate_pipeline.py", ["m", "--num-sampling-steps", "8", "--speedup", "2", "--limit", "0"], "got '0'"),
        *(
            (
                "calibrate_pipeline.py",
                ["m", "--num-sampling-steps", "8", "--speedup", "2", "--call", text],
                f"argument --call: expected a JSON object such as '{{\"height\": 480}}', got {text!r}",
            )
            for text in ("null", "height=480", '["height"]')
        ),
        ("calibrate.py", ["scenes/sample_adacache", "--speedup", "2", "--prompt-path", ""], "no prompts; pass"),
        ("calibrate.py", ["a.py", "--speedup", "2", "--out", ""], "argument --out: expected a path, got an empty text"),
        ("compare.py", ["a.py", "--out", " "], "argument --out: expected a path, got an empty text"),
        ("plan.py", ["scenes/sample", "--link-gb", "3"], "--link-gb is for benchmarks with devices, such as paper/"),
        ("plan.py", ["scenes/sample", "--tflops", "3"], "--tflops is for benchmarks with devices, such as paper/"),
        ("report.py", ["gone", "--num-videos", "3"], "--num-videos is for the page of a benchmark, and 'gone' has no"),
        ("compare.py", ["a.py", "--limit", "0"], "argument --limit: expected a whole number of at least 1, got '0'"),
        ("evaluate_bundled.py", ["folder", "--batch", "-1"], "expected a whole number of at least 1, got '-1'"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_before_anything_is_read(mains, capsys, script, arguments, message):
    assert status_of(mains[script], arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
