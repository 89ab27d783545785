"""Pair prompts with the images and videos that condition them."""

from __future__ import annotations

import re
from pathlib import Path

from opensora_adacache.media.reading import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_SUFFIXES = IMAGE_SUFFIXES + VIDEO_SUFFIXES
# "sample_0003", or "sample_0003-1" for the second sample of a prompt
_NUMBERED = re.compile(r"_(\d{4,})(?:-(\d+))?$")


class ReferenceShelf:
    """Where the references of a run come from.

    Args:
        entries: what the config says: nothing, one entry for all prompts (a folder, or files separated by
            ";"), or one entry per prompt.
        num_prompts: prompts of the run.
        start_index: index of the first prompt.

    Raises:
        ValueError: the number of entries fits neither.
    """

    def __init__(self, entries: tuple[str, ...], num_prompts: int, start_index: int = 0) -> None:
        if len(entries) not in (0, 1, num_prompts):
            raise ValueError(
                f"reference_path has {len(entries)} entries for {num_prompts} prompts; "
                "expected one per prompt, or one folder or file for all"
            )
        self.entries = entries
        self.start_index = start_index
        self.folder = Path(entries[0]) if len(entries) == 1 and _is_folder(entries[0]) else None
        self._files = list_media(self.folder) if self.folder else []

    def find(self, index: int, sample: int = 0) -> tuple[Path, ...]:
        """Return the references of prompt `index` (none: an empty tuple).

        In a folder, files named by index as this package names them (``sample_0003.png``) belong to the
        prompt of that index; files named otherwise are paired in sorted order.

        Args:
            index: of the prompt, from the start of the prompt file.
            sample: of several samples of a prompt, each may have an image of its own.
        """
        if self.folder is None:
            position = 0 if len(self.entries) == 1 else index - self.start_index
            return split_paths(self.entries[position]) if self.entries else ()
        numbers = [_NUMBERED.search(file.stem) for file in self._files]
        if all(numbers):
            own = [
                file for file, number in zip(self._files, numbers, strict=True) if number and int(number[1]) == index
            ]
            return (own[sample % len(own)],) if own else ()
        return (self._files[index],) if index < len(self._files) else ()


def split_paths(text: str) -> tuple[Path, ...]:
    """Split paths separated by ";".

    >>> [str(path) for path in split_paths("a.png;b.mp4")]
    ['a.png', 'b.mp4']
    """
    return tuple(Path(part.strip()).expanduser() for part in text.split(";") if part.strip())


def list_media(folder: Path) -> list[Path]:
    """List the images and videos of a folder, sorted by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    return sorted(file for file in files if not file.name.startswith("."))


def _is_folder(entry: str) -> bool:
    """Tell a folder, which need not exist yet, from a file or a list of files."""
    return bool(entry) and ";" not in entry and Path(entry).suffix.lower() not in _SUFFIXES
