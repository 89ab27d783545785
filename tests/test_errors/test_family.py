"""The family of errors: the builtin errors they derive from, and messages on one line."""

from __future__ import annotations

import pickle

import pytest

from opensora_adacache.errors import family
from opensora_adacache.errors.family import AdaCacheError

FAMILY = [kind for kind in vars(family).values() if isinstance(kind, type) and issubclass(kind, AdaCacheError)]


@pytest.mark.parametrize("kind", FAMILY)
def test_messages_are_one_line_that_any_terminal_can_show(kind):
    error = kind("a prompt\u2028of\x0btwo \x1b[31mlines \udcff")
    assert str(error) == "a prompt of two \\x1b[31mlines \\udcff"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(kind("x" * 10_000))) < 2100


@pytest.mark.parametrize("kind", [kind for kind in FAMILY if kind is not AdaCacheError])
def test_callers_may_go_on_catching_the_builtin_errors(kind):
    assert issubclass(kind, ValueError | OSError)


def test_a_missing_file_is_still_one():
    with pytest.raises(FileNotFoundError, match="gone.png"):
        raise family.MissingFileError("gone.png")
