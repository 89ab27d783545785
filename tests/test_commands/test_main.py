"""The wrapper of every command, and the scripts that use it."""

from __future__ import annotations

import io
import os
import runpy
import sys
from pathlib import Path

import pytest

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))
EXPERIMENTS = sorted(path.stem for path in (SCRIPTS / "experiments").glob("*.py"))


def raising(error):
    def command(options):
        raise error

    return command


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's class."""


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("expected one,\n got two"), 2, "error: expected one, got two\n"),
        (OSError("no space"), 2, "error: no space\n"),
        (PermissionError(13, "Permission denied", "a.txt"), 2, "error: 'a.txt': Permission denied\n"),
        (KeyboardInterrupt("3 videos are made"), 130, "3 videos are made\n"),
        (KeyboardInterrupt(), 130, "interrupted before anything was made\n"),
        (OutOfMemoryError(), 2, "error: the GPU's memory is full; try --cfg-options text_encoder.offload=True"),
    ],
)
def test_errors_of_users_are_one_line(capsys, error, status, message):
    assert run_command(raising(error), None) == status
    shown = capsys.readouterr()
    assert shown.err.startswith(message) and shown.err.count("\n") == 1 and not shown.out


def test_a_status_and_other_errors_pass_through():
    assert run_command(lambda options: None, 1) == 0 and run_command(lambda options: options, 5) == 5
    with pytest.raises(RuntimeError, match="a bug"):
        run_command(raising(RuntimeError("a bug")), None)
    with pytest.raises(ImportError):
        run_command(raising(ImportError("no matplotlib")), None)
    assert run_command(raising(ImportError("no matplotlib")), None, errors=(ImportError,)) == 2


class Terminal(io.TextIOWrapper):
    """A stdout of a given encoding."""

    def __init__(self, encoding):
        super().__init__(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", rb"\u2026 \xe9"), ("latin-1", b"\\u2026 \xe9")])
def test_characters_that_the_terminal_lacks_end_no_run(monkeypatch, capsys, encoding, printed):
    terminal = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run_command(print, "… é") == 0
    assert terminal.buffer.getvalue() == printed + b"\n" and not capsys.readouterr().err


def test_help_appears_on_every_terminal(monkeypatch):
    terminal = Terminal("ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    OneLineParser(prog="x", description="``apply_cache(…)`` of `x`").print_help()
    assert rb"'apply_cache(\u2026)' of 'x'" in terminal.buffer.getvalue()


def test_help_that_cannot_be_written_is_one_line(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as stopped:
            OneLineParser(prog="x").parse_args(["--help"])
        assert stopped.value.code == 2 and capsys.readouterr().err.startswith("error: the output cannot be written")


@pytest.mark.parametrize("buffering", [1, -1])
def test_a_pipe_whose_reader_has_ended_is_one_line(monkeypatch, capsys, buffering):
    """With a buffer and, as in containers with PYTHONUNBUFFERED=1, where printing fails at once."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=buffering) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run_command(print, "a row") == 2
        assert capsys.readouterr().err.startswith("error: the program that reads the output has ended; let it read")


@pytest.mark.parametrize("flush", [False, True])
def test_an_output_that_cannot_be_written_is_one_line(monkeypatch, capsys, flush):
    """Whether the text is printed at once or only when the command ends."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run_command(lambda options: print("a row", flush=flush), None) == 2
        assert capsys.readouterr().err == (
            "error: the output cannot be written: No space left on device; write it to a file on a disk with free "
            "space\n"
        )


def test_only_rank_0_speaks(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert run_command(raising(ValueError("wrong")), None) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [*NAMES, *(f"experiments/{name}" for name in EXPERIMENTS)])
def test_every_script_has_help(name, capsys):
    main = runpy.run_path(str(SCRIPTS / f"{name}.py"))["main"]
    try:
        status = main(["--help"])
    except SystemExit as end:
        status = end.code
    assert status == 0 and len(capsys.readouterr().out) > 100


def test_scripts_are_short_and_import_no_script():
    for path in SCRIPTS.rglob("*.py"):
        text = path.read_text()
        assert path.parent != SCRIPTS or text.count("\n") <= 80, path
        assert "sys.path" not in text or path.stem == "upstream_inference", (
            path
        )  # for this script, it is upstream's source tree
