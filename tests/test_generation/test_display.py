"""What a run shows on a terminal: bars over videos and steps, the schedule, lines above them."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from opensora_adacache.config import load_config
from opensora_adacache.generation.batches import plan_batches
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.display import Display, PlainDisplay
from opensora_adacache.generation.displays import choose_display
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.strip import strip
from opensora_adacache.generation.terminal import TerminalDisplay

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path, tiny_config):
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)
    return load_config(path, {"prompt": ["a red circle", "a blue square"], "save_dir": str(tmp_path), "verbose": 1})


def make(display, config, schedule):
    """Show a run of two videos with the same schedule, and what is printed after each."""
    with display.videos(2, in_workers=False):
        for batch in plan_batches(plan_jobs(config), config):
            with display.batch(batch) as show:
                for index, computed in enumerate(schedule):
                    show(DenoisingStep(index, len(schedule), (computed == "#",), lambda: None))
            display.say(f"{batch.name} is finished")
            display.advance(1)


@pytest.mark.parametrize(("encoding", "drawn"), [("utf-8", "██▁▁█▁▁█"), ("ascii", "##..#..#")])
def test_a_terminal_shows_the_schedule_and_the_videos(config, encoding, drawn):
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)
    console = Console(file=screen, force_terminal=True, width=100, color_system=None, _environ={"TERM": "xterm"})
    make(TerminalDisplay(config, console), config, "##..#..#")
    shown = screen.buffer.getvalue().decode(encoding)
    assert f"{drawn} 8/8, 4 computed" in " ".join(shown.split()) and "sample_0001.mp4" in shown
    assert "2/2 in 0:00" in shown and shown.endswith("\x1b[?25h")  # the cursor is visible again


def test_a_run_that_ends_early_leaves_the_terminal_in_order(config):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None, _environ={"TERM": "xterm"})
    display = TerminalDisplay(config, console)
    with pytest.raises(KeyboardInterrupt), display.videos(2, in_workers=False):
        with display.batch(plan_batches(plan_jobs(config), config)[0]) as show:
            show(DenoisingStep(0, 8, (True,), lambda: None))
            raise KeyboardInterrupt
    last = screen.getvalue().splitlines()[-2]
    assert "0/2 after 0:00" in last and "sample_0000" not in last and screen.getvalue().endswith("\x1b[?25h")


def test_a_log_gets_lines_and_quiet_runs_nothing(config, capsys, monkeypatch):
    make(choose_display(config, shows=True), config, "##..#..#")
    shown = capsys.readouterr()
    assert shown.out == "sample_0000.mp4 is finished\nsample_0001.mp4 is finished\n" and not shown.err
    assert type(choose_display(config, shows=True)) is PlainDisplay
    assert type(choose_display(config, shows=False)) is Display
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert type(choose_display(config, shows=True)) is TerminalDisplay
    assert type(choose_display(load_config(config.path, {"prompt": ["a"], "save_dir": "out"}), shows=True)) is Display


def test_a_strip_has_no_more_cells_than_fit():
    assert strip([1, 0, 0, 1, 0], 10, 10) == "█▁▁█▁"
    assert strip([1, 0] * 50, 100, 50) == "▅" * 50
    # 7 steps in 3 cells of 2, 2 and 3: the last one has begun
    assert strip([1, 1, 0, 0, 1], 7, 3) == "█▁█"
    assert strip([], 30, 10) == ""


@pytest.mark.slow
def test_ctrl_c_on_a_real_terminal_shows_the_cursor_again(tmp_path):
    command = [sys.executable, "scripts/inference.py", "configs/scenes/sample_adacache.py", "--end-index", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*command, "--save-dir", str(tmp_path)], cwd=ROOT, env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen, told = b"", False
    try:
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the end of a pseudo terminal
                break
            if re.search(rb"1/3[^0]", seen) and not told:
                told = True
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    text = seen.decode()
    plain = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).split())
    assert "1/3 after" in plain and "interrupted: 1 of 3 videos are finished" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
