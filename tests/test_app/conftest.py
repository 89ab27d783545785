"""The app as its command serves it, a browser, and a proxy that notes every request that would leave the machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ADDRESS = re.compile(r"the app is at (http://\S+)")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")


# What Chromium asks by itself, whatever a page holds: updates, whether an account is signed in, how to fill in forms.
BROWSERS_OWN = (
    "accounts.google.com",
    "clients2.google.com",
    "content-autofill.googleapis.com",
    "optimizationguide-pa.googleapis.com",
    "redirector.gvt1.com",
    "update.googleapis.com",
)


class Elsewhere:
    """A proxy for everything that is not on this machine: it notes what is asked of it, and refuses it.

    Args:
        ignored: hosts that are not noted.

    Attributes:
        asked: first line of each request.
    """

    def __init__(self, *ignored: str) -> None:
        self.asked: list[str] = []
        self._ignored = ignored
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                line = connection.recv(1000).split(b"\r\n")[0].decode(errors="replace")
                if not any(f" {host}:" in line or f"//{host}/" in line for host in self._ignored):
                    self.asked.append(line)
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """What the server asks of other machines."""
    proxy = Elsewhere()
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def beyond() -> Iterator[Elsewhere]:
    """What pages ask of other machines, including connections without a request."""
    proxy = Elsewhere(*BROWSERS_OWN)
    yield proxy
    proxy.close()


@contextmanager
def serving(*arguments: str, proxy: str) -> Iterator[str]:
    """Run ``opensora-adacache app`` at a free port and give its address."""
    command = [sys.executable, "-m", "opensora_adacache.commands.cli", "app", *arguments, "--port", "0"]
    proxies = {name: proxy for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    environment = {**os.environ, **proxies, "no_proxy": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if found := ADDRESS.search(line):
                break
        else:
            pytest.fail("".join(lines))
        drain = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        drain.start()
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, "".join(lines)
        drain.join()
        assert "Traceback" not in "".join(lines), "".join(lines)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def address(elsewhere: Elsewhere) -> Iterator[str]:
    """The address of the app with the bundled model."""
    pytest.importorskip("gradio", reason="needs the extra [app]")
    with serving(proxy=elsewhere.address) as address:
        yield address


@pytest.fixture(scope="module")
def chromium(beyond: Elsewhere) -> Iterator[Any]:
    """A headless Chromium, or skip the test. CHROMIUM can name one that is not on PATH."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [browser]")
    found = next(
        (path for name in (os.environ.get("CHROMIUM", ""), *CHROMIUM) if name and (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip(f"no browser found: install one of {', '.join(CHROMIUM)}, or name it in CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=found,
            chromium_sandbox=os.geteuid() != 0,  # the browser's sandbox does not work for root
            proxy={"server": beyond.address, "bypass": "127.0.0.1,localhost"},
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the app in a browser of its own, and collects its errors."""
    contexts, errors = [], list[str]()

    def open_(width: int = 1280, height: int = 900, context: Any = None) -> Any:
        context = context or chromium.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(address)
        page.wait_for_selector("#oa-make")
        page.wait_for_timeout(500)  # Gradio connects its events
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.fixture
def bad_image(tmp_path: Path) -> Path:
    path = tmp_path / "bad.png"
    path.write_bytes(b"this is no image")
    return path
