"""Remarks of libraries at import."""

from __future__ import annotations

import logging

from opensora_adacache.models.imports import quiet_imports


def test_warnings_are_held_back_for_the_import_only(caplog):
    logger = logging.getLogger("some.library")
    with quiet_imports():
        logger.warning("cannot load an extension")
        logger.error("broken")
    logger.warning("later")
    assert caplog.messages == ["broken", "later"]
