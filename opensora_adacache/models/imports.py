"""Import large libraries without their remarks about each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_LEVEL = RLock()


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Hold back logged warnings, not errors.

    Where torchao is installed, transformers and diffusers import it, and it warns about each of its compiled
    extensions that the machine cannot load, also in runs that quantise nothing.

    Other threads wait, because the level is that of the whole process: each would restore what it has found.
    """
    with _LEVEL:
        level = logging.root.manager.disable
        logging.disable(max(level, logging.WARNING))
        try:
            yield
        finally:
            logging.disable(level)
