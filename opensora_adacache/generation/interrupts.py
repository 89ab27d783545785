"""End a run cleanly on Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """Within a ``with`` block, Ctrl-C and SIGTERM raise KeyboardInterrupt in the main thread.

    Within `held`, they take effect at the end of that block. Existing custom handlers and ignored signals stay in
    place.

    Attributes:
        came: whether such a signal arrived. An interrupted import or extension module may raise any exception.
    """

    def __init__(self) -> None:
        self.came = False
        self._holds = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == default:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay signals until the end of this block. They only reach the main thread; in other threads, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        came_before = self.came
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        if self.came and not came_before and not self._holds:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if not self._holds:
            raise KeyboardInterrupt
