"""SenCache against a schedule worked out by hand."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.caching.policies.sencache import SenCacheConfig

STEPS = 10
INPUTS = [float(step) for step in range(STEPS)]
EVEN = {"input_sensitivities": (0.1,) * 9, "time_sensitivities": (1.0,) * 9}


def test_sencache_by_hand(drive, line):
    # per step the input moves by 1 and t by 0.1: 0.1 · 1 + 1 · 0.1 = 0.2. The first fifth, step 2, must stay below 0.05
    config = SenCacheConfig(**EVEN, threshold=0.5, early_fraction=0.1)
    assert drive(config, line(INPUTS)) == [1, 2, 5, 8]
    # the residual at step 5 is more sensitive to its input: 0.5 · 1 + 0.1 = 0.6 for one step
    sharp = SenCacheConfig((0.1,) * 4 + (0.5,) + (0.1,) * 4, (1.0,) * 9, threshold=0.5, early_fraction=0.1)
    assert drive(sharp, line(INPUTS)) == [1, 2, 5, 6, 9]
    # and at step 2 more sensitive to time: 0.1 + 5 · 0.1 = 0.6
    timed = SenCacheConfig((0.1,) * 9, (1.0, 5.0, *(1.0,) * 7), threshold=0.5, early_fraction=0.1)
    assert drive(timed, line(INPUTS)) == [1, 2, 3, 6, 9]


def test_skips_in_a_row_are_limited(drive, line):
    assert drive(SenCacheConfig(**EVEN, threshold=9.0, early_fraction=1.0), line(INPUTS)) == [1, 5, 9]
    assert drive(SenCacheConfig(**EVEN, threshold=9.0, max_skips=1), line(INPUTS)) == [1, 3, 5, 7, 9]


def test_the_cheapest_setting_computes_every_step(drive, line):
    assert drive(SenCacheConfig(**EVEN, threshold=1e-9), line(INPUTS)) == list(range(1, STEPS + 1))


def test_videos_decide_alone_and_together_by_their_root_mean_square(drive, line):
    still, moving = [0.0] * STEPS, [3.0 * x for x in INPUTS]
    config = SenCacheConfig(**EVEN, threshold=0.35, early_fraction=0.5, max_skips=9)
    # alone: 0.1 a step, 0.175 early, so four steps; and 0.3 + 0.1 a step
    expected = [[1, 5, 9], list(range(1, STEPS + 1))]
    assert drive(config, line(still, moving), groups=[[0], [1]]) == expected
    # together sqrt((0 + 9) / 2) = 2.12: 0.212 + 0.1 = 0.31 a step
    assert drive(config, line(still, moving)) == [1, 2, 4, 6, 8, 10]


def test_not_a_number_computes(drive):
    inputs = [torch.full((1, 1, 1), float("nan"))] * STEPS
    assert drive(SenCacheConfig(**EVEN, threshold=9.0), inputs) == list(range(1, STEPS + 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SenCacheConfig(), "input_sensitivities must be numbers of at least 0 .* calibrate them on this model"),
        (lambda: SenCacheConfig((1.0,), (-1.0,)), "time_sensitivities must be numbers of at least 0"),
        (lambda: SenCacheConfig((1.0, 1.0), (1.0,)), "for the same steps, got 2 and 1 values"),
        (lambda: SenCacheConfig(**EVEN, threshold=0), "threshold must be above 0"),
        (lambda: SenCacheConfig(**EVEN, early_fraction=0), "early_fraction must lie above 0 and be at most 1, got 0"),
        (lambda: SenCacheConfig(**EVEN, max_skips=0), "max_skips must be a whole number of at least 1, got 0"),
        (lambda: SenCacheConfig(**EVEN).check_run(30, 4), "sensitivities belong to 10 steps, but the run has 30"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
