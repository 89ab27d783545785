"""A finished comparison in a folder, with videos."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.evaluation.comparison import write_comparison
from opensora_adacache.evaluation.results import append_result
from opensora_adacache.media import write_video


@pytest.fixture
def bench_folder(tmp_path, rows, comparison):
    """A folder as scripts/compare.py leaves it: videos of 2 s whose square moves and whose colour is the setting's."""
    folder = tmp_path / "bench"
    settings = [setting.name for setting in comparison.settings]
    for row in rows:
        frames = torch.full((3, 16, 32, 32), -0.5)
        for frame in range(16):
            frames[settings.index(row.setting), frame, 8:24, frame : frame + 16] = 1.0
        write_video(folder / row.video, frames, 8)
        append_result(folder / "results.jsonl", row)
    write_comparison(folder / "comparison.json", comparison)
    return folder
