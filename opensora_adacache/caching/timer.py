"""Times a span of work on a device without synchronizing it."""

from __future__ import annotations

import time

import torch


class Timer:
    """Starts when it is created. On CUDA it records events, which are read when the duration is requested."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._mark()
        self._end: torch.cuda.Event | float | None = None

    def stop(self) -> None:
        """End the span."""
        self._end = self._mark()

    def _mark(self) -> torch.cuda.Event | float:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))  # the model may be on another device than the current one
        return event

    def milliseconds(self) -> float:
        """Return the duration of the span; on CUDA this waits until the span has ended."""
        if isinstance(self._start, float) and isinstance(self._end, float):
            return (self._end - self._start) * 1000
        self._end.synchronize()  # type: ignore[union-attr]
        return self._start.elapsed_time(self._end)  # type: ignore[union-attr, arg-type]
