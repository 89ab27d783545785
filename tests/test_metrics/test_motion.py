"""Flicker and motion error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from opensora_adacache.metrics.motion import flicker, motion_error


def video(*levels, size=4):
    """Return a video [3, F, size, size] of uniform frames."""
    return torch.tensor(levels, dtype=torch.float32)[None, :, None, None].expand(3, -1, size, size)


def moving_bar(places, size=16):
    """Return a black video with a white bar, two columns wide, at the given columns."""
    frames = -torch.ones(3, len(places), size, size)
    for index, place in enumerate(places):
        frames[:, index, :, place : place + 2] = 1
    return frames


VIDEOS = arrays(np.float64, st.tuples(st.just(3), st.integers(1, 5), st.just(2), st.just(2)), elements=st.floats(-1, 1))
PAIRS = st.integers(1, 5).flatmap(
    lambda n: st.tuples(*[arrays(np.float64, (3, n, 2, 2), elements=st.floats(-1, 1))] * 2)
)


def test_flicker_by_hand():
    assert flicker(video(0, 0.5, 1)) == 0  # a fade
    assert flicker(video(0, 0.5, 0)) == pytest.approx(0.25)  # a flash: half a unit of a range of two
    assert flicker(video(0, 0.5, 0.2)) == pytest.approx(0.15)  # only back to 0.2
    assert flicker(video(-1, 1, -1, 1)) == 1
    assert flicker(video(0, 1)) == 0 and flicker(video(0)) == 0
    # A moving bar changes pixels but does not flicker, unless it disappears for a frame.
    assert flicker(moving_bar([0, 1, 2, 3])) == 0
    bar = moving_bar([3, 3, 3])
    bar[:, 1] = -1
    assert flicker(bar) == pytest.approx(2 / 16)


@given(VIDEOS)
def test_flicker_has_no_direction(frames):
    assert flicker(frames[:, ::-1]) == pytest.approx(flicker(frames))
    assert flicker(-frames) == pytest.approx(flicker(frames))
    assert flicker(frames / 2) == pytest.approx(flicker(frames) / 2)


@given(VIDEOS)
def test_flicker_needs_change(frames):
    steps = max(frames.shape[1] - 1, 1), max(frames.shape[1] - 2, 1)
    # A deviation of x needs a step of at least x.
    change = abs(np.diff(frames, axis=1)).mean() / 2 if frames.shape[1] > 1 else 0.0
    assert 0 <= flicker(frames) * steps[1] <= change * steps[0] + 1e-12
    assert flicker(np.sort(frames, axis=1)) == 0


def test_motion_error_by_hand():
    assert motion_error(video(0, 0.4), video(0, 0.2)) == pytest.approx(0.2 / 0.6)
    assert motion_error(video(0.5, 0.7), video(0, 0.2)) == pytest.approx(
        0, abs=1e-6
    )  # same motion, different appearance
    assert motion_error(video(0, 0), video(0, 0.2)) == motion_error(video(0, 0.2), video(0, 0)) == 1
    assert motion_error(video(0, 0.2), video(0.2, 0)) == 1  # backwards
    assert motion_error(video(0, 0), video(1, 1)) == motion_error(video(0), video(1)) == 0  # nothing moves
    # Bars that never overlap have no motion in common; half of the path has some.
    assert motion_error(moving_bar([8, 9, 10]), moving_bar([0, 1, 2])) == 1
    assert 0 < motion_error(moving_bar([0, 1, 1]), moving_bar([0, 1, 2])) < 1


@given(PAIRS)
def test_motion_error_is_a_bounded_symmetric_error(pair):
    one, other = pair
    assert 0 <= motion_error(one, other) <= 1
    assert motion_error(one, other) == pytest.approx(motion_error(other, one))
    assert motion_error(one, one) == 0


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"the same shape \[3, F, H, W\], got \(3, 2, 4, 4\) and \(3, 2, 8, 8\)"):
        motion_error(video(0, 1), video(0, 1, size=8))
    with pytest.raises(ValueError, match=r"a video \[3, F, H, W\].*got \(2, 2, 2\)"):
        flicker(torch.zeros(2, 2, 2))
