"""Decode and write one batch in a second thread while the next batch is denoised."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext

import torch


class DecodeAhead:
    """Finishes denoised batches, one after the other, in a thread with a CUDA stream of its own.

    While one batch is denoised, at most one other is decoded, so their memory adds up. At the end of the ``with``
    block, also after an error or Ctrl-C, every submitted batch is finished first.

    Args:
        device: device of the models.
        enabled: whether to use a thread. Otherwise `submit` does the work itself.
    """

    def __init__(self, device: torch.device, enabled: bool = True) -> None:
        self._stream = torch.cuda.Stream(device) if enabled and device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") if enabled else None
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> DecodeAhead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self.check()

    def submit(self, finish: Callable[[], None]) -> None:
        """Start to finish a batch, and wait until the batch before it is finished.

        Args:
            finish: function that decodes and writes the batch, and waits for its own work on the device.

        Raises:
            Exception: what finishing this batch or the one before raised.
        """
        if self._thread is None:
            finish()
            return
        if self._stream is not None:  # until the latents are complete
            torch.cuda.current_stream(self._stream.device).synchronize()
        self._pending.append(self._thread.submit(self._on_own_stream, finish))
        if len(self._pending) > 1:
            self._pending[0].exception()  # waits
            self.check()

    def check(self) -> None:
        """Raise the error of a batch that could not be finished, without waiting for batches in work."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def _on_own_stream(self, finish: Callable[[], None]) -> None:
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            finish()
