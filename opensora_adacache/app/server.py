"""The web server of the app: the page, the files of pairs, and headers that keep browsers on this server."""

from __future__ import annotations

import os
import re
import secrets
import signal
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from opensora_adacache.app.limits import Limits
from opensora_adacache.app.source import Source
from opensora_adacache.app.store import SERVED, SUMMARY, PairStore
from opensora_adacache.app.studio import Studio
from opensora_adacache.app.visitors import COOKIE
from opensora_adacache.errors.family import AdaCacheError, ConfigError
from opensora_adacache.media.files import check_writable

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

# A browser loads nothing from another server, whatever a page asks for.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
_COOKIE = re.compile(rf"(?:^|;\s*){COOKIE}=[0-9a-f]{{32}}(?:;|$)".encode())


class AddressError(AdaCacheError, OSError):
    """The server cannot listen at an address."""


class Headers:
    """Adds headers to every answer, and a cookie that tells visitors apart.

    Args:
        app: the application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cookies = dict(scope["headers"]).get(b"cookie", b"")
        added = [
            (b"content-security-policy", POLICY.encode()),
            (b"referrer-policy", b"same-origin"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if scope["path"] == "/" and not _COOKIE.search(cookies):
            added.append((b"set-cookie", f"{COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax".encode()))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, answer)


def build_app(studio: Studio, uploads: Path) -> Any:
    """Return the application: files of pairs under ``/made``, and the page everywhere else.

    Args:
        studio: what makes the pairs.
        uploads: folder that Gradio writes uploads to.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # Gradio has no argument for it
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.responses import FileResponse, Response

    from opensora_adacache.app.page import STATIC, build_page, head, theme
    from opensora_adacache.app.rendering import MADE

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get(f"/{MADE}/{{token}}/{{name}}")
    def made(token: str, name: str):  # type: ignore[no-untyped-def]
        found = studio.store.read(token, name)
        if found is None:
            return Response("there is no such file\n", status_code=404, media_type="text/plain")
        if isinstance(found, Path):
            return FileResponse(found, media_type=SERVED[name])
        return Response(found, media_type=SERVED[name])

    gr.mount_gradio_app(
        app,
        build_page(studio, uploads),
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=studio.limits.upload_bytes,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=theme(),
        css=(STATIC / "style.css").read_text(encoding="utf-8"),
        head=head(),
    )
    app.add_middleware(Headers)
    return app


def serve(
    source: Source,
    host: str,
    port: int,
    limits: Limits,
    preview_every: int,
    save_dir: Path | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Load the models and serve the app until it is interrupted.

    Args:
        source: where runs come from.
        host: address to listen at.
        port: port to listen at.
        limits: limits of the app.
        preview_every: number of steps from one preview to the next.
        save_dir: folder that keeps the videos. None removes them at the end.
        say: function that is called with one line at a time.

    Raises:
        ConfigError: the videos of the config are too large, or gradio is not installed.
        WriteError: the folder to keep the videos in is not writable.
        AddressError: the address is in use or not this machine's.
        ValueError: see `Studio`.
        OSError: see `Studio`.
    """
    limits.check_run(source.config)
    try:
        import gradio  # noqa: F401
        import uvicorn
    except ImportError:
        raise ConfigError("the app needs gradio: run pip install 'gradio>=6.31,<7'") from None
    if save_dir is not None:
        check_writable(save_dir / SUMMARY)  # before any model is loaded
    # What ends a service ends it like Ctrl-C, so that its files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opensora-adacache-")))
        store = PairStore(save_dir or folder / "pairs", keep=save_dir is not None)
        studio = stack.enter_context(Studio(source, store, folder / "uploads", limits, preview_every, say))
        app = build_app(studio, folder / "uploads")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3))
        shown = f"[{host}]" if ":" in host else host
        listener.listen()  # whoever reads the next line may connect
        say(f"the app is at http://{shown}:{listener.getsockname()[1]} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):  # which uvicorn raises again, once it has answered what was open
            server.run(sockets=[listener])


def _listen(host: str, port: int) -> Any:
    """Return a socket that is bound to an address, before any model is loaded."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise AddressError(f"cannot listen at {host}:{port}: {reason}; choose another --host or --port") from None
    return listener
