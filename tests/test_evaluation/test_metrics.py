"""Metrics of frames, motion, intervals and memory, by hand and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.evaluation.bootstrap import bootstrap_interval
from opensora_adacache.evaluation.memory import MemoryPeak, resident_bytes
from opensora_adacache.evaluation.metrics import check_metrics, load_metrics, lpips_missing, psnr, ssim
from opensora_adacache.evaluation.motion import flicker, motion_error

RNG = np.random.default_rng(0)
VIDEO = RNG.uniform(-1, 1, (3, 4, 16, 16))


def test_psnr_by_hand():
    # an error of 0.2 of a range of 2 is 20 dB; one frame that is equal counts 100
    assert psnr(VIDEO + 0.2, VIDEO) == pytest.approx(20.0)
    half = VIDEO.copy()
    half[:, :2] += 0.2
    assert psnr(half, VIDEO) == pytest.approx(60.0)


def gaussian_ssim(one, other):
    """SSIM of two pictures [H, W] as its paper defines it, borders reflected."""
    one, other = np.pad(one, 5, mode="reflect"), np.pad(other, 5, mode="reflect")
    offsets = np.arange(11) - 5
    kernel = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(kernel, kernel) / kernel.sum() ** 2
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    values = []
    for row in range(one.shape[0] - 10):
        for column in range(one.shape[1] - 10):
            a, b = one[row : row + 11, column : column + 11], other[row : row + 11, column : column + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
            both = (window * a * b).sum() - mean_a * mean_b
            values.append(
                (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return np.mean(values)


def test_ssim_is_that_of_its_paper():
    noisy = VIDEO + RNG.normal(0, 0.2, VIDEO.shape)
    inner = np.mean([gaussian_ssim(VIDEO[c, f], noisy[c, f]) for c in range(3) for f in range(4)])
    assert ssim(noisy, VIDEO) == pytest.approx(inner, abs=1e-4)
    assert ssim(VIDEO, VIDEO) == pytest.approx(1.0)


def test_lpips_is_there_or_says_why():
    measures = load_metrics(("psnr", "lpips"))
    if lpips_missing():
        assert "LPIPS needs" in lpips_missing() and list(measures) == ["psnr"]
    else:
        assert measures["lpips"](VIDEO[:, :, :, :], VIDEO) == pytest.approx(0, abs=1e-5)


def test_unknown_metrics():
    with pytest.raises(ValueError, match="unknown metric 'pnsr', did you mean 'psnr'"):
        check_metrics(["ssim", "pnsr"])


@pytest.mark.parametrize("measure", [psnr, ssim, motion_error])
def test_other_sizes(measure):
    with pytest.raises(ValueError, match=r"one shape, got \(3, 4, 16, 16\) and \(3, 3, 16, 16\)"):
        measure(VIDEO, VIDEO[:, :3])


def test_flicker_and_motion_error_by_hand():
    blinking = np.zeros((3, 3, 2, 2))
    blinking[:, 1] = 1.0  # half of the range, up and down
    assert flicker(blinking) == 0.5
    assert motion_error(np.zeros_like(blinking), blinking) == 1.0
    assert motion_error(2 * blinking, blinking) == 1.0
    assert motion_error(blinking + 0.3, blinking) == pytest.approx(0.0)  # brighter, but moving alike
    assert motion_error(blinking, np.zeros_like(blinking)) is None


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_an_interval_holds_its_mean(values):
    found = bootstrap_interval(values, num_resamples=200)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        found = bootstrap_interval(list(generator.normal(0, 1, 40)), num_resamples=300, seed=seed)
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_seeds_of_one_prompt_are_drawn_together():
    """Twice the same value for each prompt is no more evidence than once."""
    values = [1.0, 2.0, 4.0, 8.0]
    once = bootstrap_interval(values, clusters="abcd")
    twice = bootstrap_interval(values * 2, clusters="abcdabcd")
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    alone = bootstrap_interval(values * 2)
    assert alone.high - alone.low < twice.high - twice.low


def test_peak_memory():
    with MemoryPeak(torch.device("cpu")) as memory:
        held = torch.ones(20_000_000)
        del held
        before = resident_bytes()
    assert memory.bytes is not None and memory.bytes >= before and math.isfinite(memory.bytes)
