"""Codebooks are found on recordings of what their settings measure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from opensora_adacache.adapters.recorder import recorder_for
from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.calibration.codebooks import Codebooks

CODEBOOK = {0.05: 6, 0.1: 4, 0.2: 2, 1.0: 1}


def runs(num_steps: int) -> Any:
    """Runs of a video whose probe is a random walk, and the settings that were recorded."""
    recorded = []

    def record_probe(cache: AdaCacheConfig) -> Any:
        recorded.append(cache)
        numbers, recorder = torch.Generator().manual_seed(0), recorder_for(cache)
        residual = torch.randn(1, 6, 5, generator=numbers)
        for step in range(num_steps):
            residual = residual + torch.randn(residual.shape, generator=numbers) / (5 + step)
            recorder.add(residual, 3)
        return [[recorder.recording()]]

    return SimpleNamespace(num_steps=num_steps, jobs=["job"], record_probe=record_probe, recorded=recorded)


def test_settings_that_measure_otherwise_have_recordings_of_their_own():
    shared = runs(30)
    kind, l1, cosine = Codebooks(shared), AdaCacheConfig(CODEBOOK), AdaCacheConfig(CODEBOOK, metric="cosine")
    longer = AdaCacheConfig({0.05: 9, 1.0: 1})
    for cache in (l1, cosine, longer, l1):
        assert kind.for_speedup(cache, 2) == Codebooks(runs(30)).for_speedup(cache, 2)
    assert shared.recorded == [l1, cosine, longer]  # one recording serves all speedups of settings
    assert kind.for_speedup(l1, 2).cache.codebook != kind.for_speedup(cosine, 2).cache.codebook
