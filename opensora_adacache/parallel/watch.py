"""Ends a process when another process of its team has ended, which would leave it waiting without end.

A collective waits for all processes. Over gloo, it fails at once when the connection to a process breaks. Over nccl, it
waits until the timeout of the group, many minutes later. A thread of each process therefore counts up a number in the
store of the group every second, and looks whether the numbers of the others still rise. The main thread may be inside a
collective, where Python cannot raise anything, so the watch ends the process itself.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

PERIOD_SECONDS = 1.0
PATIENCE_SECONDS = 15.0
LOST = 3
"""Exit status of a process that ends because another one has ended."""
_DONE = b"done"


class Watch:
    """Watches the processes of a team while it works; use it in a ``with`` block.

    A process that leaves the block with an error counts as ended, like one that was killed or is suspended. The others
    end at most `PATIENCE_SECONDS` and a few periods later, unless they leave the block by themselves before.

    Args:
        ranks: ranks of the team.
        rank: rank of this process.
        on_loss: called, in the first process that is left, with the rank of one that ended; returns the line to print.
    """

    def __init__(self, ranks: Sequence[int], rank: int, on_loss: Callable[[int], str]) -> None:
        self.rank = rank
        self.others = [other for other in ranks if other != rank]
        self.on_loss = on_loss
        self._store: Any = None
        self._answered = 0.0
        self._changed: dict[int, float] = {}
        self._stop = threading.Event()
        # two threads, because a store whose process is suspended does not answer
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._watch)]

    def __enter__(self) -> Watch:
        self._store = _connect()
        self._answered = time.monotonic()
        self._changed = dict.fromkeys(self.others, self._answered)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        if exception_type is not None and _may_be_loss(exception_type):
            time.sleep(PATIENCE_SECONDS + 4 * PERIOD_SECONDS)  # the watch finds out, or this is another error
        self._stop.set()
        for thread in self._threads:
            thread.join(PERIOD_SECONDS)
        if exception_type is None:
            self._store.set(_key(self.rank), _DONE)

    def _beat(self) -> None:
        """Count up, and note when the numbers of the others changed."""
        values = dict.fromkeys(self.others, b"")
        number = 0
        while not self._stop.wait(PERIOD_SECONDS):
            number += 1
            try:
                self._store.set(_key(self.rank), str(number))
                for other in self.others:
                    value = self._store.get(_key(other)) if self._store.check([_key(other)]) else b""
                    if value == _DONE or value != values[other]:
                        values[other], self._changed[other] = value, time.monotonic()
            except RuntimeError:  # the process or the launcher that held the store has ended
                self._answered = -math.inf
                return
            self._answered = time.monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            now = time.monotonic()
            if now - self._answered > PATIENCE_SECONDS:
                self._end([0])
            silent = [
                other for other in self.others if now - self._changed[other] > PATIENCE_SECONDS - 2 * PERIOD_SECONDS
            ]
            if any(now - self._changed[other] > PATIENCE_SECONDS for other in silent):
                self._end(silent)

    def _end(self, lost: Sequence[int]) -> None:
        """End this process; the first one that is left prints a line."""
        if self.rank == min({self.rank, *self.others} - set(lost)):
            print(self.on_loss(lost[0]), file=sys.stderr, flush=True)
        os._exit(LOST)


def _connect() -> Any:
    """Return a connection of its own to the store of the group, because a waiting collective may hold the other one."""
    from torch.distributed import TCPStore

    patience = timedelta(seconds=PATIENCE_SECONDS)
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=patience)


def _key(rank: int) -> str:
    return f"watch/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{rank}"


def _may_be_loss(error: type[BaseException]) -> bool:
    """Return whether an error may come from a broken connection: gloo raises RuntimeError itself, nccl a subclass."""
    return error is RuntimeError or error.__name__ in ("DistBackendError", "DistNetworkError")
