"""Write files atomically."""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from opensora_adacache.errors.family import WriteError

_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.part")


def write_file(path: str | Path, data: bytes | memoryview) -> Path:
    """Write `data` to `path` atomically: under a temporary name in the same folder, which is then renamed.

    If writing fails, an existing file is unchanged. A missing folder is created.

    Raises:
        WriteError: the folder is not writable, the disk is full, or the name is too long for the file system.
    """
    path = Path(path)
    unfinished = write_unfinished(path, data)
    try:
        rename(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def write_unfinished(path: Path, data: bytes | memoryview) -> Path:
    """Write the future content of `path` under a temporary name in its folder and return that name; see `rename`.

    Raises:
        WriteError: see `write_file`. No incomplete file remains.
    """
    # Not derived from the file name, which may be a prompt as long as the file system allows.
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    with _explaining(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    return unfinished


def check_writable(path: Path) -> None:
    """Check, before the work that finds its content, that a file can be written. A missing folder is created.

    Raises:
        WriteError: see `write_file`.
    """
    write_unfinished(path, b"").unlink()
    if path.is_dir():
        raise WriteError(f"cannot write '{path}': it is a folder; choose another name")


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Keep other processes and threads out of the same block for this folder, so that none loses what another adds.

    A process that ends, however it does, lets the next one in. On a file system without locks this does nothing.

    Raises:
        WriteError: the folder cannot be made or read.
    """
    with _explaining(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def rename(unfinished: Path, path: Path) -> None:
    """Rename a file that `write_unfinished` wrote to its final name, replacing any existing file.

    Raises:
        WriteError: see `write_file`.
    """
    with _explaining(path):
        unfinished.replace(path)


def unfinished_files(folder: Path) -> list[Path]:
    """Return the files in a folder that `write_unfinished` wrote and that were not renamed."""
    return sorted(file for file in folder.iterdir() if _UNFINISHED.fullmatch(file.name))


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"cannot write '{path}': {error.strerror or error}; free the disk or choose another folder"
        ) from None
