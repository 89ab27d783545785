"""The queue: order, places, limit, cancelling, errors, its end."""

from __future__ import annotations

import threading

import pytest

from opensora_adacache.app.requests import PairRequest
from opensora_adacache.app.views import Ended, Making, PairView, RunView, Waiting
from opensora_adacache.app.waiting_line import BusyError, Ticket, WaitingLine
from opensora_adacache.errors.family import MediaError


def ask(name):
    return Ticket(PairRequest(name, "static", 2.0, 0), name, "someone")


def pair_of(ticket):
    runs = RunView("baseline", "baseline", 2), RunView("cached", "static 2x", 2)
    return PairView(ticket.request, runs, "", ticket.token)


class Workshop:
    """Makes nothing: each pair ends when the test says so."""

    def __init__(self):
        self.begun, self.left = threading.Semaphore(0), []
        self._steps = threading.Semaphore(0)

    def make(self, ticket):
        ticket.show(Making(pair_of(ticket)))
        self.begun.release()
        self._steps.acquire()
        ticket.check()
        if ticket.token == "bad":
            raise MediaError("it is\nbad")
        if ticket.token == "broken":
            raise ZeroDivisionError
        return Ended(pair_of(ticket))

    def leave(self, ticket, end):
        self.left.append((ticket.token, end.line))

    def step(self):
        self._steps.release()


@pytest.fixture
def workshop():
    return Workshop()


@pytest.fixture
def line(workshop):
    line = WaitingLine(workshop.make, workshop.leave, most=2)
    yield line
    for _ in range(9):
        workshop.step()
    line.close()


def add(line, workshop, *names):
    """Add pairs, of which the first is being made."""
    tickets = [ask(name) for name in names]
    line.add(tickets[0])
    workshop.begun.acquire()
    for ticket in tickets[1:]:
        line.add(ticket)
    return tickets


def test_pairs_are_made_in_order_and_know_their_place(line, workshop):
    one, two, three = add(line, workshop, "one", "two", "three")
    assert one.state == Making(pair_of(one))
    assert (two.state, three.state) == (Waiting(1), Waiting(2))
    workshop.step()
    workshop.begun.acquire()
    assert isinstance(two.state, Making) and three.state == Waiting(1)
    assert list(one.follow())[-1] == Ended(pair_of(one))
    assert workshop.left == [("one", "")]


def test_the_queue_has_a_limit(line, workshop):
    add(line, workshop, "one", "two", "three")
    with pytest.raises(BusyError, match="2 pairs wait already, which is the most: try again in a minute"):
        line.add(ask("four"))


def test_a_waiting_pair_is_cancelled_at_once_and_leaves_its_place(line, workshop):
    _, two, three = add(line, workshop, "one", "two", "three")
    two.cancel()
    assert two.state == Ended(None, "cancelled before anything was made")
    line.add(ask("four"))
    assert three.state == Waiting(1) and workshop.left == [("two", two.state.line)]


def test_a_running_pair_is_cancelled_after_its_step(line, workshop):
    one, two = add(line, workshop, "one", "two")
    one.cancel()
    assert isinstance(one.state, Making)
    workshop.step()
    assert list(one.follow())[-1] == Ended(pair_of(one), "cancelled")
    workshop.begun.acquire()
    assert isinstance(two.state, Making)


def test_errors_end_a_pair_and_not_the_line(line, workshop, capsys):
    bad, broken, good = add(line, workshop, "bad", "broken", "good")
    for _ in range(3):
        workshop.step()
    assert list(bad.follow())[-1] == Ended(pair_of(bad), "it is bad", failed=True)
    end = list(broken.follow())[-1]
    assert end.failed and end.line == (
        "the app could not make this pair (ZeroDivisionError); its terminal shows the details"
    )
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert list(good.follow())[-1] == Ended(pair_of(good))


def test_whoever_stops_to_follow_cancels(line, workshop):
    one, two = add(line, workshop, "one", "two")
    states = two.follow()
    assert next(states) == Waiting(1)
    states.close()
    assert isinstance(two.state, Ended) and isinstance(one.state, Making)


def test_the_end_of_the_line_ends_every_pair(workshop):
    line = WaitingLine(workshop.make, workshop.leave, most=2)
    one, two = add(line, workshop, "one", "two")
    workshop.step()
    line.close()
    assert isinstance(two.state, Ended) and isinstance(one.state, Ended)
