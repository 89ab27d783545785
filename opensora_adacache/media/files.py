"""Write files whole or not at all."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opensora_adacache.errors.family import WriteError

_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.part")


def write_file(path: str | Path, data: bytes | memoryview) -> Path:
    """Write `data` to `path`, whole or not at all: under a temporary name in the same folder, then renamed.

    A file that was there before stays as it is if writing fails. The folder is made if it is missing.

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
    """Write the content of `path` under a temporary name in its folder, and return that name; see `rename`.

    Raises:
        WriteError: as `write_file`; nothing half-written is left behind.
    """
    # Not derived from the name: that may be a prompt and as long as the file system allows.
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


def rename(unfinished: Path, path: Path) -> None:
    """Give a file that `write_unfinished` wrote its name, in place of what has it now.

    Raises:
        WriteError: as `write_file`.
    """
    with _explaining(path):
        unfinished.replace(path)


def unfinished_files(folder: Path) -> list[Path]:
    """Return the files in a folder that `write_unfinished` wrote and nobody renamed."""
    return sorted(file for file in folder.iterdir() if _UNFINISHED.fullmatch(file.name))


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"cannot write '{path}': {error.strerror or error}; free the disk or choose another folder"
        ) from None
