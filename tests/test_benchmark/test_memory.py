"""Peak memory."""

from __future__ import annotations

import sys

import pytest
import torch

from opensora_adacache.benchmark import memory
from opensora_adacache.benchmark.memory import MemoryPeak

CPU = torch.device("cpu")
MEBIBYTE = 2**20
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read on Linux")


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
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "no such folder" / "clear_refs")
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
