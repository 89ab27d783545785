"""Common wrapper of the scripts: one-line errors and warnings for users, exit status, Ctrl-C."""

from __future__ import annotations

import errno
import io
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from opensora_adacache.errors.family import AdaCacheWarning
from opensora_adacache.errors.shown import one_line

_Options = TypeVar("_Options")

INTERRUPTED = 130
WRONG_INPUT = 2


def run_command(
    function: Callable[[_Options], int | None], options: _Options, errors: tuple[type[Exception], ...] = ()
) -> int:
    """Call a command with its options and return the exit status.

    The status is 0 if the command returns None, and otherwise what it returns. It is 2 after an error that the user can
    fix, which is printed as one line on stderr. It is 130 after Ctrl-C; the message of the `KeyboardInterrupt`, if it
    has one, says what was finished. Only rank 0 prints. Any other exception is a bug and propagates.

    Args:
        function: the command.
        options: argument of the command.
        errors: exceptions besides ValueError and OSError that the user can fix.
    """
    expected: tuple[type[BaseException], ...] = (ValueError, OSError, *errors)
    _show_any_text()
    try:
        with _one_line_warnings():
            status = function(options) or 0
        sys.stdout.flush()  # a full disk or a closed pipe is an error of the command, not of Python's exit
        return status
    except KeyboardInterrupt as interrupt:
        return _say(str(interrupt) or "interrupted before anything was made", INTERRUPTED)
    except expected as error:
        return _say(f"error: {_error_of_stdout(error) or one_line(error)}", WRONG_INPUT)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's class, compared by name to avoid the import
            raise
        return _say(
            "error: the GPU's memory is full; try --cfg-options text_encoder.offload=True vae.micro_batch_size=1, "
            "a smaller --batch-size or a smaller --resolution",
            WRONG_INPUT,
        )


def print_error(error: BaseException, where: str = "") -> None:
    """Print an error that does not end the command as one line on stderr."""
    _say(f"error: {where}: {one_line(error)}" if where else f"error: {one_line(error)}", WRONG_INPUT)


def typed_command(script: str, arguments: Sequence[str] | None) -> str:
    """Return a command as the user types it, to be stored with its results.

    >>> typed_command("scripts/compare.py", ["my configs/compare.py", "--limit", "2"])
    "python scripts/compare.py 'my configs/compare.py' --limit 2"
    """
    given = sys.argv[1:] if arguments is None else arguments
    program = Path(sys.argv[0]).name  # set by `commands.cli`
    return f"{program if program.startswith('opensora-adacache') else f'python {script}'} {shlex.join(given)}"


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Print each warning of this package as one line on stderr, and those of other packages as Python does.

    Only rank 0 prints.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", AdaCacheWarning)
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if not issubclass(category, AdaCacheWarning):
                show_others(message, category, *place, **options)
            else:
                _say(f"warning: {one_line(message)}", 0)

        warnings.showwarning = show
        yield


def _show_any_text() -> None:
    """Print characters that the terminal's encoding lacks as escapes; they would end a run that has made videos."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _error_of_stdout(found: BaseException) -> str | None:
    """Return why stdout cannot be written to, and give it up; None if the error found is another one."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at exit
        found = error
    if isinstance(found, BrokenPipeError):
        return "the program that reads the output has ended; let it read all of it, or write the output to a file"
    if isinstance(found, OSError) and found.errno == errno.ENOSPC and found.filename is None:
        return f"the output cannot be written: {found.strerror}; write it to a file on a disk with free space"
    return None


def _say(message: str, status: int) -> int:
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr)
    return status
