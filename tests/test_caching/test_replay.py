"""Offline replay, compared with the real session."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.caching.adacache import AdaCacheConfig, AdaCacheSchedule, SiteMeasurement
from opensora_adacache.caching.moreg import MoRegConfig
from opensora_adacache.caching.replay import Recorder, replay, replay_trace
from opensora_adacache.caching.trace import StepRecord


def record(residuals, num_frames, max_rate, metric="l1"):
    """Return the recording of a video with these probe residuals."""
    recorder = Recorder((1,), max_rate, metric)
    for residual in residuals:
        recorder.add(residual, num_frames)
    return recorder.recording()


def residuals_of(changes, frames=2):
    """Return residuals with one token per frame that start as ones and change by the given amounts."""
    values, residuals = 1.0, []
    for change in [0.0, *changes]:
        values += change
        residuals.append(torch.full((2, frames, 3), values))
    return residuals


def test_constant_change_by_hand():
    # norms grow, so distances fall slowly from 0.1; below 0.2: rate 3
    recording = record(residuals_of([0.1] * 19), 2, max_rate=6)
    assert replay(AdaCacheConfig({0.01: 6, 0.2: 3, 1.0: 1}), recording) == [1, 2, 5, 8, 11, 14, 17, 19, 20]
    assert recording.changes[1, 3] == pytest.approx((0.2 * 12, 12.0))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_other_metrics(metric):
    # all entries grow equally: the Euclidean change equals the L1 change, and the angle is zero
    recording = record(residuals_of([0.1] * 19), 2, max_rate=6, metric=metric)
    expected = {"l2": [1, 2, 5, 8, 11, 14, 17, 19, 20], "cosine": [1, 2, 8, 14, 19, 20]}
    assert replay(AdaCacheConfig({0.01: 6, 0.2: 3, 1.0: 1}, metric=metric), recording) == expected[metric]


def test_still_frames_have_no_motion():
    recording = record(residuals_of([0.1] * 9), 2, max_rate=2)
    assert recording.motion_scores() == [0.0] * 10
    # without motion, only the gradient (from 1 to 0 at its first step) counts; then the factor is 0, the rate maximal
    moreg = MoRegConfig(steps=(2, 10), center=0.5, power=1, gradient_weight=20)
    assert replay(AdaCacheConfig({0.5: 2, 1.0: 1}, moreg=moreg), recording) == [1, 2, 3, 5, 7, 9, 10]


def test_rates_beyond_what_was_recorded():
    recording = record(residuals_of([0.0] * 9), 2, max_rate=2)
    with pytest.raises(ValueError, match="no change from step 2 to 6 was recorded"):
        replay(AdaCacheConfig({1.0: 4}), recording)


def trace_of(codebook, changes):
    """Return the trace of a video that changes by the given amount at each step, under a codebook."""
    schedule, last, trace = AdaCacheSchedule(AdaCacheConfig(codebook), len(changes)), None, []
    for step in range(1, len(changes) + 1):
        computes, decision = schedule.computes(step), None
        if computes:
            sites = [SiteMeasurement(sum(changes[last:step]), 1.0)] if last else []
            decision, last = schedule.end_computed_step(step, sites), step
        distance = decision.distance if decision else None
        trace.append(StepRecord(step, computes, distance, None, None, schedule.rate, 2 * computes, 1.0))
    return trace


SLOW, FAST = {0.05: 2, 1.0: 1}, {0.05: 4, 1.0: 1}


def test_another_codebook_on_a_trace_by_hand():
    trace = trace_of(SLOW, [0.01] * 12)
    assert (
        replay_trace(SLOW, trace) == [record.step for record in trace if record.computed] == [1, 2, 4, 6, 8, 10, 11, 12]
    )
    assert replay_trace(FAST, trace) == [1, 2, 6, 10, 11, 12]


@given(st.lists(st.floats(0, 0.3), min_size=6, max_size=30))
def test_a_trace_of_every_step_predicts_any_codebook(changes):
    """If every step was computed, nothing has to be estimated: the replay equals the run."""
    every = trace_of({1.0: 1}, changes)
    run = [record.step for record in trace_of(FAST, changes) if record.computed]
    assert replay_trace(FAST, every) == run


def test_a_trace_that_was_cut_off():
    trace = trace_of(FAST, [0.01] * 12)
    with pytest.raises(ValueError, match="does not end with a computed step"):
        replay_trace(SLOW, trace[:9])
    with pytest.raises(ValueError, match="does not end with a computed step"):
        replay_trace(SLOW, [])


def test_a_trace_of_another_policy():
    with pytest.raises(ValueError, match="only AdaCache measures"):
        replay_trace(FAST, [StepRecord(step, True, None, None, None, 1, 2, 1.0) for step in (1, 2, 3)])
