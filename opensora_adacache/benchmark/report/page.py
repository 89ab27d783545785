"""A self-contained HTML page that shows compared runs side by side."""

from __future__ import annotations

from pathlib import Path

from opensora_adacache.benchmark.report.runs import ComparedRun
from opensora_adacache.benchmark.report.template import data_uri, render
from opensora_adacache.media.files import write_file


def write_page(path: Path, runs: list[ComparedRun], title: str) -> None:
    """Write the page: the table, then the videos of each prompt, playing in sync, with their schedules.

    The page embeds the videos, so the file needs nothing else.

    Raises:
        OSError: the page cannot be written.
    """
    sources = [[data_uri("video/mp4", video.record.path.read_bytes()) for video in run.videos] for run in runs]
    write_file(path, render("page.html.jinja", title=title, runs=runs, sources=sources).encode())
