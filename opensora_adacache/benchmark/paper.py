"""Figures printed in the AdaCache paper, as data. They are quoted, never measured here."""

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
    """One row of a printed table. A figure is None if the table lacks the column or leaves the cell empty.

    Attributes:
        method: name of the method in the table.
        vbench: VBench total in percent.
        psnr: PSNR in dB against the uncached video of the same seed.
        lpips: LPIPS against the same video.
        ssim: SSIM against the same video.
        tflops: 10¹² FLOPs per video.
        latency_s: seconds per video.
        speedup: speedup over the baseline.
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
        name: our name for the table.
        source: where the figures come from.
        rows: method → row, in the printed order.
    """

    name: str
    source: str
    rows: Mapping[str, PaperRow]

    def row(self, method: str) -> PaperRow:
        """Return the row of a method.

        Raises:
            ValueError: the table has no such method.
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
        ValueError: there is no such table.
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
