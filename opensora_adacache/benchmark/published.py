"""Rows that papers print for Open-Sora 1.2 at 480p, as data. They are quoted, never measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensora_adacache.benchmark.paper import PaperRow, find_table

_FILE = Path(__file__).with_name("published_rows.json")
_ADACACHE = "AdaCache"
_ADACACHE_TABLE = "open-sora-1.2 (480p, 2s, 30 steps)"

READINGS: Mapping[str, str] = {
    "paper": "the paper itself",
    "file": "a file of the authors' repository",
    "copy": "a copy of the paper's text in a public repository; not compared with the PDF",
    "notes": "a reader's notes on the paper in a public repository; not compared with the PDF",
    "secondary": "quoted from a summary; neither the paper nor a copy of it was seen",
}
"""How figures were read."""


@dataclass(frozen=True)
class Source:
    """A paper that prints rows.

    Attributes:
        source: where the figures stand.
        device: the GPU of its latencies.
        baseline_s: seconds per uncached video on it; None if unknown.
        read: how the figures were read, one of `READINGS`.
        note: what a reader must know to compare them.
    """

    source: str
    device: str
    baseline_s: float | None
    read: str
    note: str


@dataclass(frozen=True)
class PublishedRow:
    """One printed row.

    Attributes:
        by: the authors who print it, a key of `published_sources`.
        row: its figures.
    """

    by: str
    row: PaperRow


def published_sources() -> dict[str, Source]:
    """Return the papers: name of their method → source."""
    return {name: Source(**source) for name, source in _read()["sources"].items()}


def published_rows() -> list[PublishedRow]:
    """Return all rows for 480p and 51 frames, the AdaCache paper's among them, from the largest speedup down.

    A method that several papers print has several rows. Rows without a printed speedup come last.
    """
    own = [PublishedRow(_ADACACHE, row) for name, row in find_table(_ADACACHE_TABLE).rows.items() if name != "baseline"]
    others = [PublishedRow(row.pop("by"), PaperRow(**row)) for row in _read()["rows"]]
    return sorted([*own, *others], key=lambda each: -(each.row.speedup or 0.0))


def _read() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))
