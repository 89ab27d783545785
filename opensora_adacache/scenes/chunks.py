"""Encoded clips in chunks, of which training replaces the oldest one now and then."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod


class Chunks(ABC):
    """Holds encoded clips. Chunk number c replaces the oldest chunk and depends only on the seed and on c.

    Args:
        size: number of clips, a multiple of `chunk`.
        chunk: number of clips per chunk.
    """

    def __init__(self, size: int, chunk: int) -> None:
        if size < chunk or size % chunk:
            raise ValueError(f"number of clips must be a multiple of {chunk}, got {size}")
        self.size, self.chunk = size, chunk
        self.num_chunks = size // chunk

    def fill(self, renewed: int, seconds: float | None = None) -> None:
        """Encode the chunks that are held after `renewed` renewals, or as many of them as the time allows."""
        until = time.monotonic() + seconds if seconds else None
        for number in range(renewed, renewed + self.num_chunks):
            self.put(number)
            if until and time.monotonic() > until:
                break

    def renew(self, step: int, every: int) -> None:
        """Replace the oldest chunk at the end of every so many steps, counted from 0."""
        if (step + 1) % every == 0:
            self.put(self.num_chunks + step // every)

    def rows(self, number: int) -> slice:
        """Return where chunk number `number` is held."""
        first = number % self.num_chunks * self.chunk
        return slice(first, first + self.chunk)

    @abstractmethod
    def put(self, number: int) -> None:
        """Encode chunk number `number` in place of the oldest chunk."""
