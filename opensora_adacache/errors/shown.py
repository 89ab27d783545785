"""Formats values for messages: short, and on one line."""

from __future__ import annotations

import reprlib

LONGEST_LINE = 2000

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 4
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = 8
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100


def shown(value: object) -> str:
    """Return the repr of a value for a message, shortened if it is long or deeply nested.

    >>> shown([1, "two"]), shown(list(range(20)))
    ("[1, 'two']", '[0, 1, 2, 3, 4, 5, 6, 7, ...]')
    """
    try:
        return " ".join(_SHORT.repr(value).split())
    except (ValueError, RecursionError):  # whole numbers of more than 4300 digits have no repr
        return f"a value of type {type(value).__name__}"


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def one_line(error: object) -> str:
    r"""Return the text of an error on one line that any terminal can show, or the name of its class if it has no text.

    An error of the system reads as the path and the reason.

    >>> one_line(ValueError("no\nway")), one_line(KeyError()), one_line(FileNotFoundError(2, "No such file", "a.py"))
    ('no way', 'KeyError', "'a.py': No such file")
    """
    text = " ".join((_of_system(error) or str(error)).split()) or type(error).__name__
    text = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


def _of_system(error: object) -> str:
    """Return the path and the reason of an error of the system, or "" for any other error."""
    if not isinstance(error, OSError) or not error.strerror or error.filename is None:
        return ""
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    return "'" + "' -> '".join(paths) + f"': {error.strerror}"
