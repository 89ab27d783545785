"""Choose what a process of a run shows, from its config and where stderr leads."""

from __future__ import annotations

import sys

from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation.display import Display, PlainDisplay


def choose_display(config: RunConfig, shows: bool) -> Display:
    """Return the display of a process.

    Args:
        config: config of the run.
        shows: whether this process shows anything.
    """
    if not shows or config.verbose < 1:
        return Display()
    if not sys.stderr.isatty():
        return PlainDisplay()
    from opensora_adacache.generation.terminal import TerminalDisplay

    return TerminalDisplay(config)
