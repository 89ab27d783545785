"""A command line parser with one-line errors, and one-line warnings."""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from opensora_adacache.errors.family import AdaCacheWarning
from opensora_adacache.errors.shown import one_line


class OneLineParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that does not print its usage before an error, nor the markup of docstrings."""

    def format_help(self) -> str:
        """Return the help, whose description is often a docstring, with its code in single quotes."""
        return super().format_help().replace("``", "'")

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 after one line on stderr."""
        self.exit(2, f"error: {one_line(message)}; --help lists the flags\n")


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print each warning of this package as one line on stderr, and those of other packages as Python does.

    Only rank 0 prints.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", AdaCacheWarning)
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if not issubclass(category, AdaCacheWarning):
                show_others(message, category, *place, **options)
            elif os.environ.get("RANK", "0") == "0":
                print(f"warning: {one_line(message)}", file=sys.stderr)

        warnings.showwarning = show
        yield


def number(text: str) -> int | float:
    """Parse an integer as int and any other number as float.

    >>> number("24"), number("23.976")
    (24, 23.976)
    """
    try:
        return int(text)
    except ValueError:
        return float(text)


def count(text: str) -> int:
    """Read a whole number of at least 1.

    >>> count("24")
    24
    """
    value = int(text) if text.strip().lstrip("+").isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return value


def speedup(text: str) -> float:
    """Read a speedup: a finite number of at least 1.

    >>> speedup("1.5")
    1.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got '{text}'")
    return value
