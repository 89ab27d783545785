"""The visitors of an app, each with a history of pairs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from opensora_adacache.app.limits import Limits
from opensora_adacache.app.views import PairView
from opensora_adacache.app.waiting_line import Ticket

COOKIE = "visitor"
"""Name of the cookie that tells visitors apart."""


class Visitors:
    """The histories of the latest visitors.

    Args:
        limits: limits of the app.
        drop: called with the token of each pair that leaves a history.
    """

    def __init__(self, limits: Limits, drop: Callable[[str], object]) -> None:
        self._limits = limits
        self._drop = drop
        self._histories: OrderedDict[str, list[PairView]] = OrderedDict()
        self._tickets: dict[str, Ticket] = {}
        self._lock = threading.Lock()

    def history(self, visitor: str) -> tuple[PairView, ...]:
        """Return the pairs of a visitor, the newest first."""
        with self._lock:
            return tuple(self._histories.get(visitor, ()))

    def add(self, visitor: str, pair: PairView) -> None:
        """Add a pair to the history of a visitor."""
        with self._lock:
            history = self._histories.setdefault(visitor, [])
            self._histories.move_to_end(visitor)
            history.insert(0, pair)
            dropped = history[self._limits.pairs :]
            del history[self._limits.pairs :]
            if len(self._histories) > self._limits.visitors:
                dropped += self._histories.popitem(last=False)[1]
        for each in dropped:
            self._drop(each.token)

    def begin(self, page: str, ticket: Ticket) -> None:
        """Note what a page follows, in place of what it followed before."""
        with self._lock:
            before = self._tickets.get(page)
            self._tickets[page] = ticket
        if before is not None:
            before.cancel()

    def end(self, page: str) -> None:
        """Cancel what a page follows, if anything."""
        with self._lock:
            ticket = self._tickets.pop(page, None)
        if ticket is not None:
            ticket.cancel()
