"""Watches one call of a pipeline from outside: its calls of the transformers, and when its parts begin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from opensora_adacache.adapters.patches import Patches


class PipelineCalls:
    """What a pipeline does in one call.

    Attributes:
        num_steps: calls of its transformers.
        text_seconds: seconds until the first of them, in which texts are encoded.
        denoising_seconds: seconds from then until the VAE decodes.
        decoding_seconds: seconds from then to the end.
        aside_seconds: seconds of other work while denoising, which the caller adds; not part of `denoising_seconds`.
        grid: latent frames, rows and columns, which the latest call of a transformer states if it gets tokens.
        decode: the decoder of the VAE, which is not watched.
    """

    def __init__(self, device: torch.device, decode: Callable[..., Any]) -> None:
        self.num_steps = 0
        self.text_seconds = self.denoising_seconds = self.decoding_seconds = self.aside_seconds = 0.0
        self.grid: tuple[int, int, int] | None = None
        self.decode = decode
        self._device = device
        self._marks: dict[str, float] = {}

    def mark(self, part: str) -> None:
        """Note the time at which a part begins, once the device has finished its work. Later marks are ignored."""
        if part not in self._marks:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._marks[part] = time.perf_counter()

    def finish(self) -> None:
        """Compute the seconds of each part."""
        self.mark("end")
        end = self._marks["end"]
        decoding = self._marks.get("decoding", end)
        denoising = self._marks.get("denoising", decoding)
        self.text_seconds = denoising - self._marks["begin"]
        self.denoising_seconds = decoding - denoising - self.aside_seconds
        self.decoding_seconds = end - decoding


@contextmanager
def watched_calls(pipeline: Any, transformers: list[Any], device: torch.device) -> Iterator[PipelineCalls]:
    """Watch one call of a pipeline in a ``with`` block. The device is synchronised twice, never between steps.

    Args:
        pipeline: the pipeline.
        transformers: its transformers.
        device: device that it computes on.
    """
    calls, patches = PipelineCalls(device, pipeline.vae.decode), Patches()

    def count(original: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.mark("denoising")
            calls.num_steps += 1
            frames, rows, columns = (kwargs.get(name) for name in ("num_frames", "height", "width"))
            calls.grid = None if frames is None or rows is None or columns is None else (frames, rows, columns)
            return original(*args, **kwargs)

        return call

    def begin_decoding(original: Callable) -> Callable:
        def decode(*args: Any, **kwargs: Any) -> Any:
            calls.mark("decoding")
            return original(*args, **kwargs)

        return decode

    for transformer in transformers:
        patches.wrap_call(transformer, count)
    patches.wrap(pipeline.vae, "decode", begin_decoding)
    try:
        calls.mark("begin")
        yield calls
        calls.finish()
    finally:
        patches.restore()
