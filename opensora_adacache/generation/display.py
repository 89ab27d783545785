"""What a run shows: nothing, plain lines for a log, or bars on a terminal (`generation.terminal`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opensora_adacache.generation.batches import Batch
from opensora_adacache.generation.denoising_step import DenoisingStep

ShowStep = Callable[[DenoisingStep], object]


class Display:
    """Shows nothing: the display of quiet runs, and of all processes of a group but the first."""

    def say(self, line: str) -> None:
        """Show a line that stays."""

    @contextmanager
    def videos(self, total: int, in_workers: bool) -> Iterator[None]:
        """Show in a ``with`` block how many videos are finished.

        Args:
            total: number of videos to make.
            in_workers: whether other processes make them, so that this one sees no steps.
        """
        yield

    def advance(self, count: int) -> None:
        """Count videos that were made or given up."""

    @contextmanager
    def batch(self, batch: Batch) -> Iterator[ShowStep]:
        """Show in a ``with`` block how a batch is denoised; give the function to call after each step."""
        yield lambda step: None

    def close(self) -> None:
        """Leave the terminal in order; for a process that is about to end without leaving its ``with`` blocks."""


class PlainDisplay(Display):
    """Prints lines, which suit a log file."""

    def say(self, line: str) -> None:
        print(line, flush=True)
