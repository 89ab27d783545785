"""The most memory that a stretch of work held."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

_STATM = Path("/proc/self/statm")
_PERIOD = 0.02  # seconds between looks at the resident set


class MemoryPeak:
    """Measure the peak while a ``with`` block runs: of the device on CUDA, else the process's resident set.

    The resident set is looked at every 20 ms by a thread, since the system's own high-water mark never falls; `bytes`
    is None where the system does not show it.

    Args:
        device: where the work runs.
    """

    def __init__(self, device: Any) -> None:
        self.device = device
        self.bytes: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> MemoryPeak:
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        elif _STATM.exists():
            self.bytes = resident_bytes()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            import torch

            self.bytes = torch.cuda.max_memory_allocated(self.device)
        elif self._thread:
            self._stop.set()
            self._thread.join()
            self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes or 0, resident_bytes())


def resident_bytes() -> int:
    """Return the resident set of this process."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
