"""The page of the app: Gradio's form, and the parts that this package renders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from opensora_adacache.app.menu import FASTEST, SLOWEST
from opensora_adacache.app.rendering import (
    render_empty,
    render_error,
    render_header,
    render_history,
    render_state,
)
from opensora_adacache.app.studio import Studio
from opensora_adacache.app.views import Ended
from opensora_adacache.app.visitors import COOKIE
from opensora_adacache.errors.shown import one_line

STATIC = Path(__file__).parent / "static"

# Seconds between two states on the page: small models take more steps than a page can show.
_PACE = 0.06
_SPEEDUP = 2.2
_CHOOSE = """
element.addEventListener("click", event => {
  const card = event.target.closest("[data-pair]");
  if (card) trigger("click", { pair: card.dataset.pair });
});
"""


class UploadsOnly:
    """Refuses files of this machine and of others in what a browser sends; put on every part of a page.

    Gradio accepts a path or an address in place of an upload: it would copy or fetch the file.

    Args:
        folder: folder that uploads lie in.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    async def __call__(self, given: str | Path | None) -> str | None:
        """Return the path of an upload, and raise gr.Error for anything else."""
        if given is None:
            return None
        path = Path(given).resolve()
        if not path.is_relative_to(self._folder):
            raise gr.Error("the reference image was not uploaded: upload a file", print_exception=False)
        return str(path)


def build_page(studio: Studio, uploads: Path) -> gr.Blocks:
    """Return the page.

    Args:
        studio: what makes the pairs.
        uploads: folder that Gradio writes uploads to.
    """
    source, limits, offers = studio.source, studio.limits, list(studio.menu.offers)
    with gr.Blocks(title="opensora-adacache", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.HTML(render_header(source, studio.menu.missing))
        with gr.Row(elem_classes="oa-main", equal_height=False):
            with gr.Column(scale=4, min_width=280, elem_classes="oa-form"):
                prompt = gr.Textbox(
                    label="Prompt",
                    value=source.examples[0] if source.examples else "",
                    lines=3,
                    max_lines=6,
                    max_length=limits.prompt_characters,
                    elem_id="oa-prompt",
                )
                policy = gr.Dropdown(offers, value=offers[0], label="Policy", elem_id="oa-policy")
                speedup = gr.Slider(SLOWEST, FASTEST, value=_SPEEDUP, step=0.1, label="Speedup", elem_id="oa-speedup")
                note = gr.HTML(_note(studio, offers[0], _SPEEDUP))
                with gr.Row():
                    make = gr.Button("Make videos", variant="primary", scale=2, min_width=120, elem_id="oa-make")
                    cancel = gr.Button("Cancel", interactive=False, scale=1, min_width=80, elem_id="oa-cancel")
                image = gr.Image(
                    label="Reference image (optional): the first frame",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    height=140,
                    buttons=[],
                    visible=source.takes_reference,
                    elem_id="oa-reference",
                )
                seed = gr.Number(value=source.config.seed, precision=0, minimum=0, label="Seed", elem_id="oa-seed")
                if source.examples:
                    gr.Examples([[text] for text in source.examples], [prompt], label="Examples", elem_id="oa-examples")
            with gr.Column(scale=9, min_width=280):
                stage = gr.HTML(render_empty(source), elem_id="oa-stage")
                history = gr.HTML("", elem_id="oa-history", js_on_load=_CHOOSE)

        def follow(
            text: str, upload: str | None, name: str, value: float, number: float, request: gr.Request
        ) -> Iterator[tuple[Any, ...]]:
            """Ask for a pair and show its states until its end."""
            idle = gr.update(interactive=True), gr.update(interactive=False)
            visitor = _visitor(request)
            try:
                ticket = studio.ask(visitor, _page_of(request), text, upload, name, value, number)
            except (ValueError, OSError) as error:
                yield render_error(one_line(error), source), gr.skip(), *idle
                return
            for state in ticket.follow():
                if isinstance(state, Ended):
                    yield render_state(state, source), render_history(studio.visitors.history(visitor)), *idle
                else:
                    yield (
                        render_state(state, source),
                        gr.skip(),
                        gr.update(interactive=False),
                        gr.update(interactive=True),
                    )
                    time.sleep(_PACE)

        def stop(request: gr.Request) -> None:
            studio.visitors.end(_page_of(request))

        def show(event: gr.EventData, request: gr.Request) -> Any:
            """Show a pair of the history."""
            pairs = {pair.token: pair for pair in studio.visitors.history(_visitor(request))}
            chosen = pairs.get(str(event.pair))
            return gr.skip() if chosen is None else render_state(Ended(chosen), source)

        def past(request: gr.Request) -> str:
            return render_history(studio.visitors.history(_visitor(request)))

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        form, shown = [prompt, image, policy, speedup, seed], [stage, history, make, cancel]
        make.click(follow, form, shown, concurrency_limit=None, trigger_mode="once", **quiet)
        cancel.click(stop, queue=False, **quiet)
        history.click(show, None, stage, queue=False, **quiet)
        for chosen in (policy, speedup):
            chosen.change(lambda name, value: _note(studio, name, value), [policy, speedup], note, queue=False, **quiet)
        page.load(past, None, history, queue=False, **quiet)
        page.unload(stop)
    guard = UploadsOnly(uploads)
    for block in page.blocks.values():
        block.async_move_resource_to_block_cache = guard  # type: ignore[method-assign]
    image.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore[method-assign]
    page.queue(max_size=4 * limits.waiting, default_concurrency_limit=None)
    return page


def theme() -> gr.themes.Base:
    """Return the theme, with the fonts of the visitor's own system: no page asks another server for anything."""
    blue = gr.themes.Color(
        "#f0f6fc",
        "#dbe9f7",
        "#b9d3ee",
        "#8db7e1",
        "#5d97d0",
        "#2563a8",
        "#20558f",
        "#1b4777",
        "#17395f",
        "#122c49",
        "#0d2036",
    )
    return gr.themes.Base(
        primary_hue=blue,
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_500",
        button_primary_background_fill_hover="*primary_600",
        button_primary_text_color="white",
        slider_color="*primary_500",
    )


def head() -> str:
    """Return what the page adds to its head."""
    return f"<script>{(STATIC / 'player.js').read_text(encoding='utf-8')}</script>"


def _note(studio: Studio, policy: Any, speedup: Any) -> str:
    """Return the line under the speedup."""
    from html import escape

    try:
        line = studio.menu.choose(policy, speedup).note
    except ValueError as error:
        line = one_line(error)
    return f'<p class="oa-choice">{escape(line)}</p>'


def _visitor(request: gr.Request) -> str:
    """Return who sent a request: by cookie, or for a browser without cookies by page."""
    return request.cookies.get(COOKIE) or _page_of(request)


def _page_of(request: gr.Request) -> str:
    """Return the page that sent a request."""
    return str(request.session_hash)
