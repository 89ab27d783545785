"""DiCache against schedules worked out by hand; its residuals are tested in test_residuals/test_aligned.py."""

from __future__ import annotations

import pytest

from opensora_adacache.caching.dry_run import fewest_steps
from opensora_adacache.caching.policies.dicache import DiCacheConfig

# outputs of the probe; the fixture passes them as the residual of the first blocks too, so that their input is 0
GROWING = [1.1**step for step in range(10)]


def test_dicache_by_hand(drive, line):
    # a change of 0.1 a step: two retained steps, then 0.1, 0.2 and 0.3 at steps 3, 4 and 5, which reaches 0.29
    config = DiCacheConfig(threshold=0.29, retention=0.2)
    assert drive(config, line(GROWING)) == [1, 2, 5, 8, 10]
    assert drive(DiCacheConfig(threshold=0.29, retention=0.0), line(GROWING)) == [1, 4, 7, 10]
    assert drive(DiCacheConfig(threshold=0.29, retention=1.0), line(GROWING)) == [*range(1, 11)]
    assert drive(DiCacheConfig(threshold=1e-9), line(GROWING)) == [*range(1, 11)]


def test_changes_count_from_the_previous_step(drive, line):
    # there and back: every step moves by 1 of 1 or by 1 of 2, although none is far from the last computed one
    assert drive(DiCacheConfig(threshold=1.4, retention=0.0), line([1.0, 2.0] * 4)) == [1, 3, 5, 7, 8]


@pytest.mark.parametrize(
    ("outputs", "threshold", "expected"),
    [
        # where the probe changes as its input does, the distance is 0
        ([2 * x for x in GROWING], 1e-3, [1, 10]),
        # the input grows by 0.1 a step, the output not at all: the distance is 0.1, in either direction
        ([1.0] * 10, 0.29, [1, 4, 7, 10]),
    ],
)
def test_the_change_of_the_input_may_be_subtracted(drive, line, outputs, threshold, expected):
    config = DiCacheConfig(threshold=threshold, retention=0.0, subtract_input=True)
    assert drive(config, line(outputs), entries=line(GROWING)) == expected


def test_groups_decide_for_themselves(drive, line):
    still = [1.0] * 10
    config = DiCacheConfig(threshold=0.29, decision="sample")
    assert drive(config, line(still, GROWING), groups=[[0], [1]]) == [[1, 2, 10], [1, 2, 5, 8, 10]]


def test_a_signal_that_is_no_number_computes(drive, line):
    assert drive(DiCacheConfig(retention=0.0), line([1.0, 1.0, float("nan"), 1.0, 1.0, 1.0, 1.0]))[:3] == [1, 3, 4]


def test_what_is_known_before_a_run():
    assert fewest_steps(DiCacheConfig(retention=0.25), 20) == 6  # five retained steps and the last
    assert DiCacheConfig(probe_blocks=3).num_first_blocks == 3
    assert DiCacheConfig().num_extra_residuals == 4
    assert DiCacheConfig(subtract_input=True, predictor="taylor-1").num_extra_residuals == 3
    assert DiCacheConfig().reads_whole_video and not DiCacheConfig(predictor="reuse").reads_whole_video
    with pytest.raises(ValueError, match="probe_blocks must be at most 28, the model's layers, got 29"):
        DiCacheConfig(probe_blocks=29).check_run(30, 28)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"probe_blocks": 0}, "probe_blocks must be a whole number of at least 1, got 0"),
        ({"retention": 1.5}, "retention must be a fraction from 0 to 1, got 1.5"),
        ({"subtract_input": 1}, "subtract_input must be True or False, got 1"),
        ({"limit": 0.9}, "limit must be a number of at least 1, got 0.9"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        DiCacheConfig(**values)
