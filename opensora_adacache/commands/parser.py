"""A command line parser with one-line errors, and the types of its arguments."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from opensora_adacache.commands.main import run_command
from opensora_adacache.errors.shown import one_line


class OneLineParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that does not print its usage before an error, nor the markup of docstrings."""

    def format_help(self) -> str:
        """Return the help, whose description is often a docstring, with its code in single quotes."""
        return re.sub("`+", "'", super().format_help())

    def print_help(self, file: Any = None) -> None:
        """Print the help. If stdout cannot be written to, exit as every command does."""
        if file is not None:
            super().print_help(file)
        elif status := run_command(print, self.format_help().rstrip("\n")):
            self.exit(status)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 after one line on stderr."""
        self.exit(2, f"error: {one_line(message)}; --help lists the flags\n")


def number(text: str) -> int | float:
    """Parse an integer as int and any other number as float.

    >>> number("24"), number("23.976")
    (24, 23.976)
    """
    try:
        return int(text)
    except ValueError:
        return float(text)


def path(text: str) -> Path:
    """Read a path. An empty text, such as that of a variable that is not set, would be the current folder.

    >>> path("outputs")
    PosixPath('outputs')
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


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
