"""The files of the pairs of an app. A page names them by a token, never by a path."""

from __future__ import annotations

import io
import shutil
import uuid
import zipfile
from pathlib import Path

from opensora_adacache.app.views import BASELINE, CACHED

ARCHIVE = "pair.zip"
SUMMARY = "pair.json"
REFERENCE = "reference.png"
# Name of a file -> its media type.
SERVED = {
    f"{BASELINE}.mp4": "video/mp4",
    f"{CACHED}.mp4": "video/mp4",
    f"{BASELINE}.json": "application/json",
    f"{CACHED}.json": "application/json",
    ARCHIVE: "application/zip",
}
_ARCHIVED = (*(name for name in SERVED if name != ARCHIVE), SUMMARY, REFERENCE)


class PairStore:
    """A folder with a subfolder for each pair.

    Args:
        root: the folder.
        keep: whether files stay when a pair is dropped.
    """

    def __init__(self, root: Path, keep: bool) -> None:
        self.root = root
        self._keep = keep
        self._folders: dict[str, Path] = {}

    def new(self) -> tuple[str, Path]:
        """Return the token of a new pair, which nobody can guess, and its folder."""
        token = uuid.uuid4().hex
        folder = self.root / token
        folder.mkdir(parents=True)
        self._folders[token] = folder
        return token, folder

    def folder(self, token: str) -> Path:
        """Return the folder of a pair."""
        return self._folders[token]

    def read(self, token: str, name: str) -> bytes | Path | None:
        """Return a file of a pair: its path, or the content of an archive of all of them. None if there is none."""
        folder = self._folders.get(token)
        if folder is None or name not in SERVED:
            return None
        if name == ARCHIVE:
            return self._archive(folder)
        return folder / name if (folder / name).is_file() else None

    def drop(self, token: str) -> None:
        """Forget a pair, and remove its files unless they are to be kept. A folder without videos is removed."""
        folder = self._folders.pop(token, None)
        if folder is not None and not (self._keep and any(folder.glob("*.mp4"))):
            shutil.rmtree(folder, ignore_errors=True)

    def _archive(self, folder: Path) -> bytes:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as out:
            for name in _ARCHIVED:
                if (folder / name).is_file():
                    out.write(folder / name, name)
        return archive.getvalue()
