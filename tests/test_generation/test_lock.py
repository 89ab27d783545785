"""Only one run at a time uses a folder, and stale locks do not block others."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from opensora_adacache.errors.family import FolderInUseError
from opensora_adacache.generation.lock import LOCK_NAME, STALE_SECONDS, FolderLock

ELSEWHERE = {"host": "another.host", "process": 12, "since": "2026-01-02 03:04:05", "token": "x"}


def leave_lock(folder, owner, age):
    folder.mkdir(exist_ok=True)
    (folder / LOCK_NAME).write_text(json.dumps(owner) if isinstance(owner, dict) else owner)
    date = time.time() - age
    os.utime(folder / LOCK_NAME, (date, date))


def test_the_second_is_told_who_is_first(tmp_path):
    folder = tmp_path / "new" / "out"
    with FolderLock(folder) as first:
        first.acquire()
        with FolderLock(folder) as second:
            with pytest.raises(FolderInUseError) as caught:
                second.acquire()
            second.check()  # like the other processes of a run, which never acquired it
        told = str(caught.value)
        assert f"in use by process {os.getpid()} on host {socket.gethostname()} since 20" in told
        assert "--save-dir" in told and "\n" not in told
        first.check()
    assert os.listdir(folder) == []
    with FolderLock(folder) as third:
        third.acquire()


HOLD = """
import sys
from pathlib import Path
from opensora_adacache.errors.family import FolderInUseError
from opensora_adacache.generation.lock import FolderLock
FolderLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_stopped_process_keeps_its_lock_and_a_killed_one_loses_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        with FolderLock(tmp_path) as lock, pytest.raises(FolderInUseError, match=f"process {process.pid} on"):
            lock.acquire()
    finally:
        process.kill()
        process.communicate()
    assert os.listdir(tmp_path) == [LOCK_NAME]
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        assert json.loads((tmp_path / LOCK_NAME).read_text())["process"] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_a_lock_of_another_host_counts_while_it_is_renewed(tmp_path):
    leave_lock(tmp_path, ELSEWHERE, age=STALE_SECONDS / 2)
    with FolderLock(tmp_path) as lock:
        with pytest.raises(FolderInUseError, match=r"process 12 on host another.host .* ends after 120 s"):
            lock.acquire()
        assert os.listdir(tmp_path) == [LOCK_NAME]
        leave_lock(tmp_path, ELSEWHERE, age=STALE_SECONDS * 2)
        lock.acquire()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"host": 5}', "\0" * 5000])
def test_a_lock_that_names_nobody_is_taken_over(tmp_path, content):
    leave_lock(tmp_path, content, age=STALE_SECONDS * 2)
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        lock.check()


def test_without_locks_of_the_file_system_the_date_decides(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with FolderLock(tmp_path) as first, FolderLock(tmp_path) as second:
        first.acquire()
        with pytest.raises(FolderInUseError, match=f"process {os.getpid()} on"):
            second.acquire()
        # the first run is suspended, and the second takes over
        os.utime(tmp_path / LOCK_NAME, (0, 0))
        second.acquire()
        second.check()
        with pytest.raises(FolderInUseError, match="it took over while this run was suspended"):
            first.check()
        first.release()
        assert os.listdir(tmp_path) == [LOCK_NAME]  # the first run no longer held it


def test_a_lock_that_somebody_removed_is_no_reason_to_stop(tmp_path):
    with FolderLock(tmp_path) as lock:
        lock.acquire()
        (tmp_path / LOCK_NAME).unlink()
        lock.check()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write '.*file/out'.*choose another folder"):
        FolderLock(tmp_path / "file" / "out").acquire()
