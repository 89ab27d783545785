"""Write files whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_file(path: str | Path, data: bytes | memoryview) -> Path:
    """Write `data` to `path`, whole or not at all: under a temporary name in the same folder, then renamed.

    A file that was there before stays as it is if writing fails. The folder is made if it is missing.

    Raises:
        OSError: the folder is not writable, the disk is full, or the name is too long for the file system.
    """
    path = Path(path)
    # Not derived from the name: that may be a prompt and as long as the file system allows.
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot write '{path}': {error.strerror or error}; free the disk or choose another folder"
        ) from None
    return path
