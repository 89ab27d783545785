"""Quoted figures."""

from __future__ import annotations

import pytest

from opensora_adacache.benchmark.paper import find_table

MAIN = "open-sora-1.2 (480p, 2s, 30 steps)"


def test_tables_of_the_paper():
    table = find_table(MAIN)
    assert "2411.02397" in table.source
    assert list(table.rows)[:3] == ["baseline", "Delta-DiT", "T-GATE"]
    row = table.row("AdaCache-fast")
    assert (row.vbench, row.psnr, row.lpips, row.ssim) == (79.39, 24.92, 0.0981, 0.8375)
    assert (row.tflops, row.latency_s, row.speedup) == (1331.97, 24.16, 2.24)
    assert find_table("ablations").row("metric cosine").latency_s == 86.74
    assert find_table("resolution 720p-2s").row("AdaCache").vbench == 83.4
    assert find_table("multi-gpu open-sora, 8 GPUs").row("PAB").latency_s == 10.31


def test_unknown_names_get_the_closest():
    with pytest.raises(ValueError, match=r"paper is 'open-sora-1.2', did you mean|paper is 'open-sora-1.2'; expected"):
        find_table("open-sora-1.2")
    with pytest.raises(ValueError, match="has no method 'PAB-fats', did you mean 'PAB-fast'"):
        find_table(MAIN).row("PAB-fats")
