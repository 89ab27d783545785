"""Forget the videos of some settings of a benchmark, so that they are made again: ``compare --remake``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from opensora_adacache.benchmark.description import DESCRIPTION, read_comparison, write_comparison
from opensora_adacache.benchmark.results import RESULTS, read_results, write_results
from opensora_adacache.benchmark.summary import BASELINE
from opensora_adacache.errors.shown import shown
from opensora_adacache.generation.lock import FolderLock


def forget(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Remove the rows of settings, and of the scaled thresholds that held them to their budgets.

    Files of videos stay until they are made again.

    Args:
        folder: folder of the results.
        patterns: names of settings, in which ``*`` and ``?`` stand for any characters.

    Returns:
        The names of the settings.

    Raises:
        FolderInUseError: another process makes rows in the folder.
        OSError: the results cannot be read or written.
        ValueError: no setting has such a name, or it is the baseline, which all others are compared with.
    """
    record = read_comparison(folder / DESCRIPTION)
    bases = {one.name: one.held_for or one.name for one in record.settings}
    known = ", ".join(dict.fromkeys(bases.values()))
    for pattern in patterns:
        if fnmatchcase(BASELINE, pattern):
            raise ValueError(
                f"--remake {shown(pattern)} names the baseline, which all rows depend on; choose another --out"
            )
        if not any(fnmatchcase(base, pattern) for base in bases.values()):
            raise ValueError(f"--remake {shown(pattern)} names no setting in '{folder}', which has {known}")
    names = [name for name, base in bases.items() if any(fnmatchcase(base, pattern) for pattern in patterns)]
    with FolderLock(folder, "--out") as lock:
        lock.acquire()
        if (folder / RESULTS).exists():
            kept = [row for row in read_results(folder / RESULTS) if row.setting not in names]
            write_results(folder / RESULTS, kept)
        settings = tuple(one for one in record.settings if one.name not in names)
        runs = {name: run for name, run in record.runs.items() if name not in names}
        write_comparison(folder / DESCRIPTION, replace(record, settings=settings, runs=runs))
    return names
