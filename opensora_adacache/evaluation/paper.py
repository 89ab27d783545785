"""Figures that the AdaCache paper prints, quoted to stand beside ours."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def paper_tables() -> dict[str, Any]:
    """Return every quoted figure, as ``paper_tables.json`` beside this file holds them."""
    return json.loads(files("opensora_adacache.evaluation").joinpath("paper_tables.json").read_text(encoding="utf-8"))


def paper_rows(title: str) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of one of the paper's main tables, and their source.

    Raises:
        ValueError: there is no table of that title.
    """
    tables = paper_tables()
    if title not in tables["main"]:
        raise ValueError(f"unknown table '{title}' of the paper; expected one of {', '.join(tables['main'])}")
    return tables["main"][title], tables["source"]
