"""A codebook for a target speedup."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.replay import Recorder
from opensora_adacache.calibration.search import calibrate, mean_computed_steps, scale_codebook

FAST = {0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.40: 2, 1.00: 1}


def recordings():
    """Videos whose residuals drift at different speeds, faster at the start."""
    videos = []
    for seed, speed in enumerate((0.02, 0.05, 0.1)):
        generator = torch.Generator().manual_seed(seed)
        recorder, residual = Recorder((1,), max_rate=6), torch.randn(2, 4, 8, generator=generator)
        recorder.add(residual, 2)
        for step in range(29):
            residual = residual + torch.randn(2, 4, 8, generator=generator) * speed * (1 + 5 / (1 + step))
            recorder.add(residual, 2)
        videos.append(recorder.recording())
    return videos


@pytest.mark.parametrize("speedup", [1.5, 2.0, 2.5, 3.0])
def test_the_wanted_speedup_is_met(speedup):
    videos = recordings()
    found = calibrate(AdaCacheConfig(FAST), videos, speedup)
    assert mean_computed_steps(found, videos) == pytest.approx(30 / speedup, abs=0.7)
    assert list(found.codebook.values()) == list(FAST.values())


def test_impossible_speedups_name_the_range():
    with pytest.raises(ValueError, match=r"reach speedups of 1\.00 to \d\.\d\d over 30 steps, got 9"):
        calibrate(AdaCacheConfig(FAST), recordings(), 9)


def test_scaling_keeps_the_rates():
    assert scale_codebook(FAST, 0.25) == {0.02: 6, 0.04: 5, 0.06: 4, 0.08: 3, 0.1: 2, 0.25: 1}
