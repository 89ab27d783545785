"""Fixtures shared by the tests of the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

RANDOM_FILLS = ("uniform_", "normal_", "trunc_normal", "randn", "rand", "erfinv_")


class FillRecorder(TorchDispatchMode):
    """Records operations that fill real memory (not the meta device) with random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.fills: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        if name in RANDOM_FILLS and isinstance(out, torch.Tensor) and not out.is_meta:
            self.fills.append(name)
        return out


@pytest.fixture
def random_fills() -> Iterator[list[str]]:
    """The names of random operations on real memory during the test; empty if nothing is initialized."""
    recorder = FillRecorder()
    with recorder:
        yield recorder.fills


@pytest.fixture
def offline(monkeypatch, tmp_path) -> Path:
    """Disable access to the hub, as HF_HUB_OFFLINE=1 does, and start from an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"
