"""A finished benchmark in a folder, and a headless browser that opens its page."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from opensora_adacache.benchmark.description import write_comparison
from opensora_adacache.benchmark.results import append_result
from opensora_adacache.media.writing import write_video

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str:
    """Return the path of the browser, or skip the test. CHROMIUM can name one that is not on PATH."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        if name and (path := shutil.which(name)):
            return path
    pytest.skip(f"no browser found: install one of {', '.join(NAMES)}, or name it in CHROMIUM")


class Browser:
    """One page of a headless Chromium, driven by the DevTools protocol over a pipe, without packages or network.

    Args:
        profile: an empty folder.
        width, height: of the window in pixels.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        command = [
            find_chromium(),
            *("--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-gpu"),
            *(f"--window-size={width},{height}", "--hide-scrollbars", "--no-first-run", "about:blank"),
        ]
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # the browser's sandbox does not work for root
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()
        # The protocol's pipes are 3 and 4 in the browser; a copy further up keeps one from overwriting the other.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (commands_out, answers_in)]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        actions = [(os.POSIX_SPAWN_DUP2, nowhere, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, end, number) for end, number in zip(ends, (3, 4), strict=True)]
        self._process = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setpgroup=0)
        for end in (commands_out, answers_in, nowhere, *ends):
            os.close(end)
        self._unread, self._number, self._session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def close(self) -> None:
        """End the browser."""
        os.close(self._commands)
        os.close(self._answers)
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page, awaiting promises."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        script = f"""new Promise((done, failed) => {{
            const end = performance.now() + {1000 * seconds};
            const look = () => {{
                if ({condition}) done();
                else if (performance.now() > end) failed("not in time");
                else setTimeout(look, 50);
            }};
            look();
        }})"""
        self.run(script)

    def press(self, key: str) -> None:
        """Press Tab or Enter like a user."""
        codes = {"Tab": (9, ""), "Enter": (13, "\r")}
        code, text = codes[key]
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Save a screenshot of the window or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._answers, 1 << 20)
            assert data, "the browser has ended"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


@pytest.fixture
def bench_folder(tmp_path, rows, comparison):
    """A folder as scripts/compare.py writes it: videos of 2 s with a moving square in the colour of their setting."""
    folder = tmp_path / "bench"
    settings = [setting.name for setting in comparison.settings]
    for row in rows:
        frames = torch.full((3, 16, 32, 32), -0.5)
        for frame in range(16):
            frames[settings.index(row.setting), frame, 8:24, frame : frame + 16] = 1.0
        write_video(folder / row.video, frames, 8)
        append_result(folder / "results.jsonl", row)
    write_comparison(folder / "comparison.json", comparison)
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser with an empty page. The test is skipped if none is installed."""
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()
