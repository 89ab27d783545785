"""The queue of an app: pairs are made one after the other, and only so many may wait."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator

from opensora_adacache.app.requests import PairRequest
from opensora_adacache.app.views import Ended, Making, PairView, State, Waiting
from opensora_adacache.errors.family import AdaCacheError
from opensora_adacache.errors.shown import counted, one_line


class BusyError(AdaCacheError, ValueError):
    """The queue is full."""


class CancelledError(Exception):
    """A visitor has cancelled the pair that is being made."""


class Ticket:
    """A pair in the queue, or the one that is being made. A page follows it from another thread.

    Attributes:
        request: what was asked for.
        token: name of the pair in the store.
        visitor: whose history the pair belongs to.
    """

    def __init__(self, request: PairRequest, token: str, visitor: str) -> None:
        self.request = request
        self.token = token
        self.visitor = visitor
        self._state: State = Waiting(0)
        self._version = 0
        self._changed = threading.Condition()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End the pair: at once if it waits, else after the step that is running."""
        self._cancelled.set()
        with self._changed:
            if isinstance(self._state, Waiting):
                self._set(Ended(None, "cancelled before anything was made"))

    def check(self) -> None:
        """Raise CancelledError if the pair was cancelled."""
        if self._cancelled.is_set():
            raise CancelledError

    def show(self, state: State) -> None:
        """Change the state. Nothing follows the end."""
        with self._changed:
            self._set(state)

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    def follow(self) -> Iterator[State]:
        """Yield the state now and whenever it has changed, until the end. States that nobody waited for are left out.

        Whoever stops to follow a pair has gone away, which cancels it.
        """
        seen = -1
        try:
            while not isinstance(self._state, Ended) or seen != self._version:
                with self._changed:
                    self._changed.wait_for(lambda: self._version != seen)  # noqa: B023
                    seen, state = self._version, self._state
                yield state
        finally:
            self.cancel()

    def _set(self, state: State) -> None:
        if not isinstance(self._state, Ended):
            self._state = state
            self._version += 1
            self._changed.notify_all()


class WaitingLine:
    """Makes pairs in a thread of its own.

    Args:
        make: makes the pair of a ticket, shows its states, and returns its end. Errors that a visitor can fix are
            ValueError and OSError.
        leave: called with each ticket that has left the line, and its end: for a pair that was made, before whoever
            follows it learns of the end.
        most: number of pairs that may wait while another one is made.
    """

    def __init__(self, make: Callable[[Ticket], Ended], leave: Callable[[Ticket, Ended], object], most: int) -> None:
        self._make = make
        self._leave = leave
        self._most = most
        self._tickets: deque[Ticket] = deque()
        self._current: Ticket | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="pairs", daemon=True)
        self._thread.start()

    def add(self, ticket: Ticket) -> None:
        """Append a pair.

        Raises:
            BusyError: too many pairs wait.
        """
        with self._changed:
            self._remove_ended()
            if len(self._tickets) >= self._most:
                raise BusyError(
                    f"{counted(len(self._tickets), 'pair')} wait already, which is the most: try again in a minute"
                )
            self._tickets.append(ticket)
            self._tell()
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel every pair and wait until the thread has ended."""
        with self._changed:
            self._closed = True
            for ticket in (*self._tickets, *([self._current] if self._current else [])):
                ticket.cancel()
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while (ticket := self._next()) is not None:
            try:
                ticket.check()
                end = self._make(ticket)
            except CancelledError:
                end = Ended(_pair_of(ticket.state), "cancelled")
            except (ValueError, OSError) as error:
                end = Ended(_pair_of(ticket.state), one_line(error), failed=True)
            except Exception as error:  # the next visitor's pair may work
                traceback.print_exc()
                line = f"the app could not make this pair ({type(error).__name__}); its terminal shows the details"
                end = Ended(_pair_of(ticket.state), line, failed=True)
            with self._changed:
                self._current = None
                self._remove_ended()
                self._tell()
            self._leave(ticket, end)
            ticket.show(end)

    def _next(self) -> Ticket | None:
        with self._changed:
            while not self._tickets and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            self._current = self._tickets.popleft()
            self._tell()
            return self._current

    def _remove_ended(self) -> None:
        for ticket in tuple(self._tickets):
            if isinstance(ticket.state, Ended):
                self._tickets.remove(ticket)
                self._leave(ticket, ticket.state)

    def _tell(self) -> None:
        """Tell each waiting pair how many come before it."""
        being_made = int(self._current is not None)
        for place, ticket in enumerate(self._tickets):
            if ticket.state != Waiting(place + being_made):
                ticket.show(Waiting(place + being_made))


def _pair_of(state: State) -> PairView | None:
    return state.pair if isinstance(state, Making) else None
