"""Figures printed in the AdaCache paper and its companions, as data: quoted, never measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from opensora_adacache.errors.closest import closest

_FILE = Path(__file__).with_name("paper_tables.json")


@dataclass(frozen=True)
class PaperRow:
    """One row of a printed table; None where the table has no such column or leaves the cell empty.

    Attributes:
        method: as the table names it.
        vbench: per cent.
        psnr: dB, against the uncached video of the same seed.
        lpips: likewise.
        ssim: likewise.
        tflops: per video.
        latency_s: seconds per video.
        speedup: over the baseline.
    """

    method: str
    vbench: float | None = None
    psnr: float | None = None
    lpips: float | None = None
    ssim: float | None = None
    tflops: float | None = None
    latency_s: float | None = None
    speedup: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """A printed table.

    Attributes:
        name: ours for it.
        source: where the figures come from.
        rows: by method, in order.
    """

    name: str
    source: str
    rows: Mapping[str, PaperRow]

    def row(self, method: str) -> PaperRow:
        """Return the row of a method.

        Raises:
            ValueError: the table has none.
        """
        if method not in self.rows:
            raise ValueError(
                f"the paper's table '{self.name}' has no method '{method}'{closest(method, self.rows)}; "
                f"expected one of {', '.join(self.rows)}"
            )
        return self.rows[method]


def find_table(name: str) -> PaperTable:
    """Return a table by its name.

    >>> find_table("open-sora-1.2 (480p, 2s, 30 steps)").row("baseline").tflops
    3230.24

    Raises:
        ValueError: there is none.
    """
    content = _read()
    tables = {title: rows for group in content.values() if isinstance(group, dict) for title, rows in group.items()}
    if name not in tables:
        raise ValueError(
            f"paper is '{name}'{closest(name, tables)}; expected one of {', '.join(repr(title) for title in tables)}"
        )
    rows = {row["method"]: PaperRow(**row) for row in tables[name]}
    return PaperTable(name, content["source"], rows)


@cache
def _read() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))
