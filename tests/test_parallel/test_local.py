"""Worker processes on this machine: results, deaths, errors, and that none is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_work import WORK, Squares

from opensora_adacache.errors.family import WorkersLostError
from opensora_adacache.parallel.executor import Lost
from opensora_adacache.parallel.local import LocalExecutor

ROOT = Path(__file__).parents[2]
SQUARES = [number**2 for number in range(8)]


def do(factory, num_workers=2):
    """Return the outcomes, and the lines that were said and warned."""
    said, warned = [], []
    outcomes = list(LocalExecutor(num_workers, said.append, warned.append).run(WORK, factory))
    assert multiprocessing.active_children() == []
    return outcomes, said, warned


def times_made(folder):
    """Return how often each number was made."""
    return [len((folder / str(number)).read_text().splitlines()) for number in range(8)]


@pytest.mark.distributed
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_made_twice(tmp_path):
    outcomes, said, warned = do(Squares(tmp_path, kill=3))
    assert sorted(outcome.result.square for outcome in outcomes) == SQUARES
    assert times_made(tmp_path) == [1] * 8
    (line,) = warned
    assert line.endswith("was killed by SIGKILL; another worker makes 'number 3'")
    processes = {outcome.result.process for outcome in outcomes}
    assert os.getpid() not in processes and all(
        any(f"process {each} on" in line for line in said) for each in processes
    )


@pytest.mark.slow
@pytest.mark.distributed
def test_a_piece_that_kills_every_worker_is_given_up(tmp_path):
    outcomes, _, warned = do(Squares(tmp_path, kill=3, always=True))
    lost = [outcome for outcome in outcomes if isinstance(outcome, Lost)]
    assert [each.work.name for each in lost] == ["number 3"] and "was killed by SIGKILL" in lost[0].reason
    made = [outcome.result.square for outcome in outcomes if not isinstance(outcome, Lost)]
    assert sorted([*made, 9]) == SQUARES and len(warned) == 3


@pytest.mark.slow
@pytest.mark.distributed
def test_an_error_of_a_worker_is_that_of_the_run(tmp_path):
    with pytest.raises(ValueError, match="^the checkpoint is corrupt$") as caught:
        do(Squares(tmp_path, raises=0))
    assert "toy_work.py" in str(caught.value.__cause__)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.distributed
def test_workers_that_never_begin_end_the_run_in_one_line(tmp_path):
    with pytest.raises(WorkersLostError, match="the last one ended with status 7; 8 of 8 pieces") as caught:
        do(Squares(tmp_path, broken=True))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.distributed
def test_workers_share_the_cores_unless_the_user_says_how_many_threads(tmp_path, monkeypatch):
    for given, expected in ((None, str(max((os.cpu_count() or 1) // 2, 1))), ("3", "3")):
        if given is None:
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        outcomes, _, _ = do(Squares(tmp_path))
        assert {outcome.result.num_threads for outcome in outcomes} == {expected}


ENDLESS = """
import os, sys, time
from contextlib import contextmanager
from pathlib import Path
from opensora_adacache.parallel.executor import Work
from opensora_adacache.parallel.local import LocalExecutor

@contextmanager
def endless(items, gpu):
    def make(items):
        Path(sys.argv[1], str(os.getpid())).touch()
        time.sleep(1000)
        yield from items
    yield make

if __name__ == "__main__":
    list(LocalExecutor(2, print, print).run([Work("a", 1, 0), Work("b", 1, 1)], endless))
"""


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_started_them(tmp_path, number):
    script, folder = tmp_path / "endless.py", tmp_path / "processes"
    script.write_text(ENDLESS)
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    while len(workers := [int(path.name) for path in folder.iterdir()]) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(workers) == 2
    parent.send_signal(number)
    parent.communicate(timeout=60)
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
