"""Renders the parts of the page that are not Gradio's own from the templates beside this module."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from opensora_adacache.app.chart import HEIGHT, WIDTH, curves
from opensora_adacache.app.source import Source
from opensora_adacache.app.store import ARCHIVE, SERVED
from opensora_adacache.app.views import Ended, Making, PairView, State, Waiting
from opensora_adacache.benchmark.report.template import data_uri, html_environment

MADE = "made"
"""First part of the addresses of files of pairs."""

# Videos that are smaller than this are enlarged without smoothing.
_SMALL = 160


def render_state(state: State, source: Source) -> str:
    """Return the stage of a page: what there is of the pair, and what happens."""
    if isinstance(state, Waiting):
        line = f"waiting: {state.ahead} before yours" if state.ahead else "starting"
        return _render("stage.html.jinja", pair=None, line=line, kind="waiting", **_look(source))
    if isinstance(state, Making):
        run = state.pair.baseline if state.pair.cached.is_finished else state.pair.cached
        line = f"{run.title}: step {len(run.computed)} of {run.num_steps}"
        return _render("stage.html.jinja", pair=state.pair, line=line, kind="making", **_look(source))
    kind = "failed" if state.failed else "ended"
    return _render("stage.html.jinja", pair=state.pair, line=state.line, kind=kind, **_look(source))


def render_error(line: str, source: Source) -> str:
    """Return the stage with nothing but an error."""
    return render_state(Ended(None, line, failed=True), source)


def render_empty(source: Source) -> str:
    """Return the stage before anything was asked for."""
    return _render("stage.html.jinja", pair=None, line="", kind="empty", **_look(source))


def render_history(pairs: Sequence[PairView]) -> str:
    """Return the history of a visitor."""
    return _render("history.html.jinja", pairs=pairs)


def render_header(source: Source, missing: str) -> str:
    """Return the top of the page.

    Args:
        source: where runs come from.
        missing: one line about missing settings, or "".
    """
    config = source.config
    size = "x".join(map(str, config.image_size)) if config.image_size else ""
    facts = [f"{config.num_sampling_steps} steps", f"{config.num_frames} frames" if config.num_frames else "", size]
    # visitors need not know where on this machine a pipeline lies
    name = Path(source.name).name if Path(source.name).is_dir() else source.name
    return _render("header.html.jinja", name=name, facts=" · ".join(filter(None, facts)), missing=missing)


def _look(source: Source) -> dict[str, Any]:
    height, width = source.config.image_size or (9, 16)
    return {"ratio": f"{width} / {height}", "small": 16 < max(height, width) < _SMALL}


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = html_environment("opensora_adacache.app", "templates")
    environment.globals |= {
        "curves": curves,
        "chart": (WIDTH, HEIGHT),
        "made": MADE,
        "archive": ARCHIVE,
        "served": SERVED,
        "jpeg": lambda content: data_uri("image/jpeg", content),
    }
    return environment
