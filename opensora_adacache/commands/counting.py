"""A bar that counts what a command has finished, on terminals only: it would fill a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(name: str, total: int | None = None) -> Iterator[Callable[[], object]]:
    """Show a bar on stderr in a ``with`` block, below what is printed, and give the function that adds one to it.

    Args:
        name: what is counted.
        total: the number at which the bar is full, if it is known.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    # lines for a file or a pipe must not go to the terminal
    bar = Progress(*columns, TimeRemainingColumn(), console=console, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)
