"""Pair prompts with the images and videos that condition them."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from unicodedata import normalize

from opensora_adacache.config.paths import refuse_url
from opensora_adacache.errors.family import AdaCacheWarning, ConfigError
from opensora_adacache.errors.shown import counted
from opensora_adacache.generation.previews import is_preview
from opensora_adacache.media.reading import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_SUFFIXES = IMAGE_SUFFIXES + VIDEO_SUFFIXES
_NUM_NAMED = 5
# "sample_0003", or "sample_0003-1" for the second sample of a prompt
_NUMBERED = re.compile(r"_(\d{4,})(?:-(\d+))?$")


class ReferenceShelf:
    """The source of the references of a run.

    Args:
        entries: entries of the config: none, one for all prompts (a folder, or files separated by ";"), or one per
            prompt.
        num_prompts: number of prompts of the run.
        start_index: index of the first prompt.

    Raises:
        ConfigError: there is neither one entry nor one per prompt.
    """

    def __init__(self, entries: tuple[str, ...], num_prompts: int, start_index: int = 0) -> None:
        if len(entries) not in (0, 1, num_prompts):
            raise ConfigError(
                f"reference_path has {len(entries)} entries for {counted(num_prompts, 'prompt')}; "
                "expected one per prompt, or one folder or file for all"
            )
        self.entries = entries
        self.start_index = start_index
        is_folder = len(entries) == 1 and _is_folder(entries[0])
        self.folder = Path(os.path.expanduser(entries[0])) if is_folder else None
        self._files = list_media(self.folder) if self.folder else []
        self._warned = False

    def find(self, index: int, sample: int = 0) -> tuple[Path, ...]:
        """Return the references of prompt `index`, or an empty tuple if there are none.

        In a folder, files that are named by index like those of this package (``sample_0003.png``) belong to the
        prompt with that index. Other files are paired in the order of their names, with numbers compared by value.

        Args:
            index: index of the prompt, counted from the start of the prompt file.
            sample: number of the sample. Each sample of a prompt can have its own image.
        """
        if self.folder is None:
            position = 0 if len(self.entries) == 1 else index - self.start_index
            return split_paths(self.entries[position]) if self.entries else ()
        numbers = self._numbers()
        if numbers and None not in numbers:
            own = [file for file, number in zip(self._files, numbers, strict=True) if number == index]
            return (own[sample % len(own)],) if own else ()
        self._tell_doubts(numbers)
        return (self._files[index],) if index < len(self._files) else ()

    def why_none(self, index: int) -> str:
        """Return why a prompt has no reference, as a clause of a message."""
        if self.folder is None:
            return "it has no reference_path"
        if self._files and None not in self._numbers():
            return f"'{self.folder}' has images named by number, like '{self._files[0].name}', and none is {index:04d}"
        return f"'{self.folder}' has no image for it"

    def _numbers(self) -> list[int | None]:
        """Return the index of the prompt in the name of each file, or None for other names."""
        found = [_NUMBERED.search(file.stem) for file in self._files]
        return [None if number is None else int(number[1]) for number in found]

    def _tell_doubts(self, numbers: list[int | None]) -> None:
        """Warn once about files that move others to another prompt: those not read, and those without a number."""
        if self._warned or self.folder is None:
            return
        self._warned = True
        skipped = [file.name for file in _visible(self.folder) if not _is_media(file) and file.suffix != ".json"]
        if skipped:
            names = ", ".join(skipped[:_NUM_NAMED]) + (", …" if len(skipped) > _NUM_NAMED else "")
            warnings.warn(
                f"'{self.folder}' has {len(skipped)} file{'s' if len(skipped) > 1 else ''} of an unsupported type "
                f"({names}); the others are paired with the prompts in order",
                AdaCacheWarning,
                stacklevel=2,
            )
        if any(number is not None for number in numbers):
            other = self._files[numbers.index(None)].name
            warnings.warn(
                f"'{self.folder}' has images named by number, but '{other}' is not; all are paired with the prompts in "
                "order, not by number",
                AdaCacheWarning,
                stacklevel=2,
            )


def split_paths(text: str) -> tuple[Path, ...]:
    """Split paths separated by ";".

    Raises:
        ConfigError: one of them is a URL.

    >>> [str(path) for path in split_paths("a.png;b.mp4")]
    ['a.png', 'b.mp4']
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    for part in parts:
        refuse_url(part, "reference")
    return tuple(Path(os.path.expanduser(part)) for part in parts)


def list_media(folder: Path) -> list[Path]:
    """List the images and videos of a folder by name, with 2 before 10. A missing folder has none."""
    return [file for file in _visible(folder) if _is_media(file)]


def _visible(folder: Path) -> list[Path]:
    """List the files of a folder that are neither hidden nor previews of images that a run is making.

    A link to nothing is one of them: without it, the files after it would move to earlier prompts.
    """
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if not file.is_dir() and file.name[0] != "." and not is_preview(file))
    return sorted(files, key=_natural_order)


def _natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key that compares numbers by value, in digits of any script, and ignores case."""
    pieces = re.split(r"(\d+)", normalize("NFKC", file.name).casefold())
    return [(int(piece), "") if i % 2 else (0, piece) for i, piece in enumerate(pieces)], file.name


def _is_media(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES


def _is_folder(entry: str) -> bool:
    """Return whether an entry is a folder, which need not exist yet, rather than a file or a list of files."""
    if not entry or ";" in entry or os.path.isfile(os.path.expanduser(entry)):
        return False
    return os.path.isdir(os.path.expanduser(entry)) or not _is_media(Path(entry))
