"""The contact sheets of a finished run, and those of a benchmark: one for each setting."""

from __future__ import annotations

from pathlib import Path

from opensora_adacache.benchmark.description import DESCRIPTION, read_comparison
from opensora_adacache.benchmark.report.contact_sheet import write_contact_sheets
from opensora_adacache.benchmark.report.runs import FinishedVideo, read_run
from opensora_adacache.benchmark.results import RESULTS, ResultRow, read_results


def write_run_sheets(folder: Path, title: str | None = None) -> list[Path]:
    """Write the contact sheet of the run in a folder and return the paths of its pages.

    Args:
        folder: folder with ``run.json`` and the videos.
        title: title of the pages. None is the name of the folder.

    Raises:
        OSError: see `write_contact_sheets` and `runs.read_run`.
        ValueError: the same.
    """
    name = folder.resolve().name
    return write_contact_sheets(folder, name, title or name, read_run(folder))


def write_bench_sheets(folder: Path) -> list[Path]:
    """Write a contact sheet for each setting of the benchmark in a folder and return the paths of their pages.

    A benchmark that keeps no videos has none.

    Args:
        folder: folder with ``results.jsonl``, ``comparison.json`` and the videos.

    Raises:
        OSError: see `write_contact_sheets`, or the results are missing.
        ValueError: the same, or the results were not written by a benchmark.
    """
    rows, written = read_results(folder / RESULTS), []
    for setting in read_comparison(folder / DESCRIPTION).settings:
        kept = (row for row in rows if row.setting == setting.name and row.video is not None)
        own = sorted(kept, key=lambda row: row.video_key)
        if own:
            videos = [_video(folder, row) for row in own]
            written += write_contact_sheets(folder, setting.name, f"{own[0].title} ({setting.name})", videos)
    return written


def _video(folder: Path, row: ResultRow) -> FinishedVideo:
    return FinishedVideo(
        path=row.video_in(folder),
        prompt=row.prompt,
        seed=row.seed,
        num_steps=row.num_steps,
        computed_steps=row.computed_steps,
        denoising_seconds=row.loop_s,
        peak_cache_bytes=row.cache_bytes,
        schedule=tuple(mark == "#" for mark in row.schedule),
    )
