"""Forget the videos of some settings of a benchmark, so that they are made again: ``compare --remake``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from opensora_adacache.benchmark.description import (
    BASELINE,
    DESCRIPTION,
    SettingRecord,
    read_comparison,
    write_comparison,
)
from opensora_adacache.benchmark.results import RESULTS, read_results, write_results
from opensora_adacache.errors.shown import shown


def matching_settings(settings: Sequence[SettingRecord], patterns: Sequence[str]) -> list[str]:
    """Return the names of settings that patterns match, and of the scaled thresholds that hold them to budgets.

    Args:
        settings: settings of a benchmark.
        patterns: names of settings, in which ``*`` and ``?`` stand for any characters.

    Raises:
        ValueError: no setting has such a name, or it is the baseline, which all others are compared with.
    """
    bases = {one.name: one.held_for or one.name for one in settings}
    known = ", ".join(dict.fromkeys(bases.values()))
    for pattern in patterns:
        if fnmatchcase(BASELINE, pattern):
            raise ValueError(
                f"--remake {shown(pattern)} names the baseline, which all rows depend on; choose another --out"
            )
        if not any(fnmatchcase(base, pattern) for base in bases.values()):
            raise ValueError(f"--remake {shown(pattern)} names no setting of the benchmark, which has {known}")
    return [name for name, base in bases.items() if any(fnmatchcase(base, pattern) for pattern in patterns)]


def forget(folder: Path, names: Collection[str]) -> None:
    """Remove the rows of settings. Files of videos stay until they are made again.

    Args:
        folder: folder of the results, which is locked.
        names: names of the settings.

    Raises:
        OSError: the results cannot be read or written.
        ValueError: they were not written by a benchmark.
    """
    if (folder / RESULTS).exists():
        kept = [row for row in read_results(folder / RESULTS) if row.setting not in names]
        write_results(folder / RESULTS, kept)
    record = read_comparison(folder / DESCRIPTION)
    settings = tuple(one for one in record.settings if one.name not in names)
    runs = {name: run for name, run in record.runs.items() if name not in names}
    write_comparison(folder / DESCRIPTION, replace(record, settings=settings, runs=runs))
