"""Latency and peak memory. No time is asserted."""

from __future__ import annotations

import sys

import pytest
import torch

from opensora_adacache.benchmark import latency
from opensora_adacache.benchmark.latency import Latency, MemoryPeak, measure_latency

CPU = torch.device("cpu")
MEBIBYTE = 2**20
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read on Linux")


def test_warmups_are_run_and_not_timed():
    loops = iter([9.0, 9.0, 1.0, 5.0, 2.0])
    measured = measure_latency(lambda: next(loops), CPU, num_warmups=2, num_repeats=3)
    assert measured.loops == (1.0, 5.0, 2.0) and len(measured.runs) == 3
    assert measured.loop_seconds == 2.0
    assert all(seconds >= 0 for seconds in measured.runs)
    assert Latency((1.0, 2.0), (1.0, 1.0)).run_seconds == 1.5


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="at least 1 repeat and 0 or more warm-ups, got 0 and 1"):
        measure_latency(lambda: 0.0, CPU, num_repeats=0)
    with pytest.raises(ValueError, match="got 3 and -1"):
        measure_latency(lambda: 0.0, CPU, num_warmups=-1)


@needs_linux
def test_each_block_has_a_peak_of_its_own():
    with MemoryPeak(CPU) as large:
        block = torch.ones(64 * MEBIBYTE, dtype=torch.uint8)
        del block
    with MemoryPeak(CPU) as small:
        pass
    assert small.bytes > MEBIBYTE and small.reason == large.reason == ""
    assert large.bytes - small.bytes > 48 * MEBIBYTE


@needs_linux
def test_the_peak_of_a_block_that_fails_is_kept():
    peak = MemoryPeak(CPU)
    with pytest.raises(KeyError), peak:
        raise KeyError
    assert peak.bytes > MEBIBYTE


def test_where_it_cannot_be_measured_it_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(latency, "_CLEAR_REFS", tmp_path / "no such folder" / "clear_refs")
    with MemoryPeak(CPU) as peak:
        pass
    assert peak.bytes is None and "writable" in peak.reason and "\n" not in peak.reason
    with MemoryPeak(torch.device("meta")) as peak:
        pass
    assert peak.bytes is None and "not on 'meta'" in peak.reason


@pytest.mark.gpu
def test_peak_of_a_cuda_device():
    with MemoryPeak(torch.device("cuda")) as peak:
        block = torch.ones(64 * MEBIBYTE, dtype=torch.uint8, device="cuda")
        del block
    assert peak.bytes >= 64 * MEBIBYTE
