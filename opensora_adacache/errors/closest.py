"""The hint that follows an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from opensora_adacache.errors.shown import shown


def closest(name: object, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the known name closest to `name`, or "" if none is close.

    >>> closest("sede", ["seed", "fps"])
    ", did you mean 'seed'?"
    """
    text = name[:100] if isinstance(name, str) else shown(name)
    matches = difflib.get_close_matches(text, list(known), n=1, cutoff=0.6)
    return f", did you mean '{matches[0]}'?" if matches else ""
