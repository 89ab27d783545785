"""Remarks of libraries at import."""

from __future__ import annotations

import logging
from threading import Event, Thread

from opensora_adacache.models.imports import quiet_imports


def test_warnings_are_held_back_for_the_import_only(caplog):
    logger = logging.getLogger("some.library")
    with quiet_imports():
        logger.warning("cannot load an extension")
        logger.error("broken")
    logger.warning("later")
    assert caplog.messages == ["broken", "later"]


def test_threads_that_import_at_once_leave_the_level_as_it_was():
    """The one that begins second would find warnings held back, and hold them back for ever."""
    before, began, ended = logging.root.manager.disable, Event(), Event()

    def second():
        with quiet_imports():
            began.set()
            ended.wait(10)

    with quiet_imports():
        thread = Thread(target=second)
        thread.start()
        began.wait(0.2)
    ended.set()
    thread.join()
    assert logging.root.manager.disable == before
