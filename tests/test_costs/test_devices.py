"""Costs of a video on several devices: what each computes and sends, and the plan beside the paper's latencies."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from opensora_adacache.costs.flops import StepFlops
from opensora_adacache.costs.parallel import SplitVideo
from opensora_adacache.parallel.portions import portion, portions

ROOT = Path(__file__).parents[2]
# 3 frames of 5 places, 2 channels of 2 bytes, outputs of 8 channels of 2 x 3
VIDEO = dict(num_frames=3, num_places=5, channels=2, bytes_per_value=2, output_size=(8, 2, 3))


def test_portions_cover_everything_once():
    for total in range(1, 20):
        for parts in range(1, total + 1):
            sizes = portions(total, parts)
            assert sum(sizes) == total and len(sizes) == parts and max(sizes) - min(sizes) <= 1
            covered = [index for part in range(parts) for index in range(total)[portion(total, parts, part)]]
            assert covered == list(range(total))


def test_bytes_of_two_devices():
    video = SplitVideo(**VIDEO, sequence=2)
    # the first has 2 frames and 3 places: it sends 2 frames of 2 places, then 3 places of 1 frame; 2 rows of 4 bytes
    assert video.attention_bytes(0) == 2 * 4 * (2 * 2 + 3 * 1)
    assert video.attention_bytes(1) == 2 * 4 * (1 * 3 + 2 * 2)
    # one of its two channels of 2 frames of 5 tokens
    assert video.motion_bytes(0) == 2 * 2 * 10
    # float32 for both branches, padded to 2 frames
    assert video.output_bytes() == 4 * 2 * 8 * 2 * 2 * 3
    # each branch on a device: all three frames of one row, and no exchange
    guidance = SplitVideo(**VIDEO, guidance=2)
    assert guidance.output_bytes() == 4 * 8 * 3 * 2 * 3 and guidance.attention_bytes() == 0
    # two sums of one row, two sums of the output, a timestep
    assert guidance.message_bytes(2) == 4 * (2 + 2 + 1)


def test_flops_follow_frames_and_attention_over_time_follows_places():
    sites = {(axis, kind): 15 for axis in "st" for kind in ("attn", "cross", "mlp")}
    step = StepFlops(computed=3 + 90, reused=3, sites=sites, depth=1)
    everything = dict.fromkeys(sites, 1.0)
    assert SplitVideo(**VIDEO).device_flops(step, everything) == [93]
    first, second = SplitVideo(**VIDEO, sequence=2).device_flops(step, everything)
    assert first == pytest.approx(2 / 3 * 78 + 3 / 5 * 15) and first + second == pytest.approx(93)
    none = dict.fromkeys(sites, 0.0)
    assert SplitVideo(**VIDEO, guidance=2).device_flops(step, none) == [1.5]


@pytest.mark.slow
def test_the_plan_beside_the_papers_latencies(capsys):
    plan = runpy.run_path(str(ROOT / "scripts" / "plan.py"))["main"]
    assert plan([str(ROOT / "configs" / "paper" / "multi_gpu.py"), "--json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out) if "devices" in row]
    assert len(rows) == 3 * (1 + 2 + 2 + 2)
    quoted = {(row["setting"], row["devices"]): row for row in rows if row["guidance"] == 1}
    # calibrated on the baseline of one device
    assert (
        quoted["baseline", 1]["predicted_s"] == pytest.approx(54.02)
        and quoted["baseline", 8]["paper_latency_s"] == 12.95
    )
    for (_, number), row in quoted.items():
        assert abs(row["error_percent"]) < (20 if number > 1 else 5)
        assert (row["sent_gb"] == 0) == (number == 1)
    cached = quoted["adacache_fast", 8]
    assert cached["reused_mb"] < 0.01 * cached["computed_mb"]
    assert 5 < cached["speedup"] < 8 and cached["over_baseline"] > 1.9


def test_rates_must_be_positive(capsys):
    plan = runpy.run_path(str(ROOT / "scripts" / "plan.py"))["main"]
    assert plan([str(ROOT / "configs" / "paper" / "multi_gpu.py"), "--link-gb", "0"]) == 2
    assert capsys.readouterr().err == "error: --link-gb must be above 0 and finite, got 0\n"
