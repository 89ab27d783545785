"""A self-contained HTML page that shows compared runs side by side."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from opensora_adacache.media import write_file
from opensora_adacache.report.runs import ComparedRun


def write_page(path: Path, runs: list[ComparedRun], title: str) -> None:
    """Write the page: the table, then for each prompt its videos, playing together, with their schedules.

    Videos are embedded, so the file works on its own.

    Raises:
        OSError: the page cannot be written.
    """
    template = files("opensora_adacache.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    sources = [[_data_uri(video.record.path) for video in run.videos] for run in runs]
    html = environment.from_string(template).render(title=title, runs=runs, sources=sources)
    write_file(path, html.encode())


def _data_uri(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
