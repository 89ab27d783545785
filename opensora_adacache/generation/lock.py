"""A lock that lets only one run at a time write to a folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from opensora_adacache.errors.family import FolderInUseError, WriteError
from opensora_adacache.media.files import write_unfinished

LOCK_NAME = ".run.lock"
BEAT_SECONDS = 20
STALE_SECONDS = 120


class FolderLock:
    """The lock on a folder: a file that says which process on which machine holds it.

    The system's lock on that file (flock) shows whether its owner is alive, including over NFS if the server supports
    locks. It ends with the process, so a lock that was left behind can be taken over. Some network file systems lock
    on one machine only, or not at all. The owner therefore updates the file's date every `BEAT_SECONDS`, and a lock
    from another machine is valid until it was not updated for `STALE_SECONDS` by the clock of the file server.

    Args:
        folder: folder to lock. `acquire` creates it if it is missing.
        flag: flag of the command that chooses another folder, for errors.
    """

    def __init__(self, folder: Path, flag: str = "--save-dir") -> None:
        self.folder = folder
        self.flag = flag
        self.path = folder / LOCK_NAME
        self._file: int | None = None
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Acquire the lock.

        Raises:
            FolderInUseError: another run holds it. The message says which.
            WriteError: the folder is not writable.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file, is_locked = self._open()
        except FolderInUseError:
            raise
        except OSError as error:
            reason = error.strerror or error
            raise WriteError(
                f"cannot write '{self.folder}': {reason}; free the disk or choose another folder"
            ) from None
        owner = _read(file)
        is_elsewhere = bool(owner) and not (is_locked and owner.get("host") == socket.gethostname())
        if is_elsewhere and self._age(file) < STALE_SECONDS:
            os.close(file)
            raise self._in_use(owner, f"; if that run was killed, its lock ends after {STALE_SECONDS} s")
        self._file = file
        self._write()
        threading.Thread(target=self._beat, daemon=True).start()

    def check(self) -> None:
        """Check that this process still holds the lock that it acquired. Without a lock, do nothing.

        Raises:
            FolderInUseError: another run took it over while this process was suspended.
        """
        if self._file is None:  # another process of the run holds it
            return
        with contextlib.suppress(FileNotFoundError):
            owner = _parse(self.path.read_bytes())
            if owner and owner.get("token") != self._token:
                raise self._in_use(owner, "; it took over while this run was suspended")

    def release(self) -> None:
        """Release the lock and remove its file. Without a lock, do nothing."""
        self._stop.set()
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            if _parse(self.path.read_bytes()).get("token") == self._token:
                self.path.unlink()
        os.close(self._file)
        self._file = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self) -> tuple[int, bool]:
        """Return the open file, and whether the system locked it."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            is_locked = True
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = _read(file)
                os.close(file)
                raise self._in_use(owner) from None
            except OSError:  # the file system has no locks
                is_locked = False
            # Another run may have removed the file between the two calls.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    return file, is_locked
            os.close(file)

    def _write(self) -> None:
        assert self._file is not None
        owner = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": datetime.now().isoformat(sep=" ", timespec="seconds"),
            "token": self._token,
        }
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(owner).encode(), 0)

    def _age(self, file: int) -> float:
        """Return the seconds since the lock was updated, by the clock of the file server."""
        now = write_unfinished(self.path, b"")
        try:
            return now.stat().st_mtime - os.fstat(file).st_mtime
        finally:
            now.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # the file was removed, or the disk is temporarily unavailable
                os.utime(self.path)

    def _in_use(self, owner: dict[str, Any], remark: str = "") -> FolderInUseError:
        who = "another run"
        if owner:
            who = f"process {owner.get('process')} on host {owner.get('host')} since {owner.get('since')}"
        return FolderInUseError(
            f"'{self.folder}' is in use by {who}{remark}; wait for it, or pass {self.flag} for another folder"
        )


def _read(file: int) -> dict[str, Any]:
    return _parse(os.pread(file, 4096, 0))


def _parse(content: bytes) -> dict[str, Any]:
    """Return the owner that a lock file names; it is empty while the file is being written."""
    try:
        owner = json.loads(content)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
