"""Keep videos that were measured in different ways out of one table, whose means would be over different videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from opensora_adacache.benchmark.config import Comparison
from opensora_adacache.benchmark.description import BASELINE
from opensora_adacache.benchmark.results import ResultRow

# LPIPS is left out: its weights may be missing on one machine, and then its column is empty.
_METRICS = ("psnr", "ssim")


def check_measured(rows: Iterable[ResultRow], comparison: Comparison, folder: Path) -> None:
    """Check that the rows of earlier runs were measured as those of this one will be.

    Args:
        rows: rows in the folder.
        comparison: the benchmark.
        folder: its folder.

    Raises:
        ValueError: a row has no video file and the others will, or lacks a metric that the benchmark names, or the
            other way round.
    """
    for row in rows:
        if (row.video is not None) != comparison.keep_videos:
            raise ValueError(
                f"'{folder}' holds videos made with keep_videos={not comparison.keep_videos}, and it is "
                f"{comparison.keep_videos} now; choose another --out"
            )
        if row.policy == BASELINE:
            continue
        for metric in _METRICS:
            is_there, is_asked = getattr(row, metric) is not None, metric in comparison.metrics
            if is_there != is_asked:
                raise ValueError(
                    f"'{folder}' holds videos {'with' if is_there else 'without'} {metric}, and metrics "
                    f"{'names' if is_asked else 'does not name'} it now; choose another --out, or pass --remake "
                    f"{row.setting}"
                )
