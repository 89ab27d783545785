"""The pure functions behind a decision."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.caching.distance import change_sums, distance_of, relative_change
from opensora_adacache.caching.moreg import motion_gradient, motion_score, motion_sums, regularize_motion

sizes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))


def tensor(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(sizes, st.integers(0, 99))
def test_change_sums_are_l1_per_row(size, seed):
    rows, frames, patches, channels = size
    old, new = (
        tensor((rows, frames * patches, channels), seed),
        tensor((rows, frames * patches, channels), seed + 1),
    )
    expected = torch.stack([(new - old).abs().sum((1, 2)), old.abs().sum((1, 2))], dim=1)
    torch.testing.assert_close(change_sums(old, new), expected)


@given(st.integers(2, 6), st.integers(0, 99))
def test_pooled_rows_equal_one_whole(rows, seed):
    """Sums over parts of a tensor add up to the sums over all of it, so rows (and devices) can be pooled."""
    old, new = tensor((rows, 6, 2), seed), tensor((rows, 6, 2), seed + 1)
    whole = change_sums(old.view(1, -1, 2), new.view(1, -1, 2))
    torch.testing.assert_close(change_sums(old, new).sum(0, keepdim=True), whole)


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_sums_are_float32_for_double_precision(metric):
    old, new = torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), 5.0)
    sums = change_sums(old.double(), new.double(), metric)
    assert sums.dtype == torch.float32 and torch.equal(sums, change_sums(old, new, metric))


def test_sums_are_float32_for_half_precision():
    big = torch.full((1, 4096, 64), 8.0, dtype=torch.bfloat16)
    sums = change_sums(big, 2 * big)
    assert sums.dtype == torch.float32 and sums.tolist() == [[8.0 * 4096 * 64] * 2]


@pytest.mark.parametrize(
    ("change", "norm", "rate", "expected"),
    [(2, 8, 1, 0.25), (2, 8, 5, 0.05), (0, 0, 3, 0.0), (1, 0, 3, math.inf)],
)
def test_relative_change(change, norm, rate, expected):
    assert relative_change(change, norm, rate) == expected


@given(st.integers(1, 4), st.integers(0, 99), st.sampled_from([1, 3]))
def test_other_metrics_are_those_of_the_whole(rows, seed, rate):
    """Pooled rows give the distance of all rows together: Euclidean norms, and the angle between the residuals."""
    old, new = tensor((rows, 6, 2), seed), tensor((rows, 6, 2), seed + 1)
    l2 = ((new - old).norm() / old.norm()).item() / rate
    cosine = (1 - torch.cosine_similarity(old.flatten(), new.flatten(), dim=0)).item() / rate
    for metric, expected in (("l2", l2), ("cosine", cosine)):
        sums = change_sums(old, new, metric).sum(0).tolist()
        assert distance_of(sums, rate, metric) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_equal_and_empty_residuals(metric):
    ones, zeros = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    distances = [
        distance_of(change_sums(old, new, metric)[0].tolist(), 1, metric)
        for old, new in ((ones, ones), (zeros, zeros), (zeros, ones))
    ]
    assert distances == [0.0, 0.0, math.inf]


def test_a_longer_residual_is_no_cosine_change():
    residual = tensor((1, 50, 4), 0)
    sums = [change_sums(residual, 1.5 * residual, metric)[0].tolist() for metric in ("l1", "l2", "cosine")]
    l1, l2, cosine = (distance_of(s, 1, m) for s, m in zip(sums, ("l1", "l2", "cosine"), strict=True))
    assert (l1, l2) == (pytest.approx(0.5), pytest.approx(0.5)) and cosine == pytest.approx(0, abs=1e-6)


@given(sizes, st.integers(1, 3), st.integers(0, 99))
def test_motion_by_frames(size, stride, seed):
    rows, frames, patches, channels = size
    residual = tensor((rows, frames * patches, channels), seed)
    sums = motion_sums(residual, frames, (stride,))
    grid = residual.view(rows, frames, patches * channels)
    late, early = grid[:, stride:], grid[:, : max(frames - stride, 0)]
    expected = torch.stack([(late - early).abs().sum((1, 2)), late.abs().sum((1, 2)) + early.abs().sum((1, 2))], dim=1)
    torch.testing.assert_close(sums[:, 0], expected)
    score = motion_score([tuple(sums[0, 0].tolist())])
    assert (score is None) == (stride >= frames)
    assert score is None or 0 <= score <= 1 + 1e-6


def test_a_still_residual_has_no_motion():
    frame = tensor((1, 3, 4), 0)
    sums = motion_sums(frame.repeat(1, 5, 1), 5, (1, 2))
    assert motion_score([tuple(pair) for pair in sums[0].tolist()]) == 0


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.1, 1), st.floats(0, 10))
def test_regularised_motion_rises_with_motion(one, other, center, power):
    low, high = sorted((one, other))
    assert regularize_motion(low, center, power, 1) <= regularize_motion(high, center, power, 1)
    assert regularize_motion(center, center, power, 2) == 0.5


@given(st.floats(0, 5), st.floats(0, 5), st.integers(1, 12), st.floats(0, 20))
def test_gradient_is_antisymmetric(one, other, rate, weight):
    assert motion_gradient(one, other, rate, weight) == -motion_gradient(other, one, rate, weight)
