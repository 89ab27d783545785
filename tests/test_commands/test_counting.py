"""The bar of commands that count what they have finished."""

from __future__ import annotations

import sys

from opensora_adacache.commands.counting import counting


def test_a_bar_is_for_terminals_only(capsys, monkeypatch):
    with counting("videos", 2) as count:
        count()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with counting("videos", 2) as count:
        count()
        print("a line for a pipe")
        count()
    shown = capsys.readouterr()
    assert shown.out == "a line for a pipe\n" and "videos" in shown.err and "2/2" in shown.err
