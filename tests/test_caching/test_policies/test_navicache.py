"""NaviCache against a schedule worked out by hand."""

from __future__ import annotations

import pytest

from opensora_adacache.caching.dry_run import fewest_steps
from opensora_adacache.caching.policies.navicache import NaviCacheConfig

# The input grows by 1 a step. Outputs stand for the steps that compute; the others are never looked at.
INPUTS = [float(step) for step in range(14)]
OUTPUTS = [10.0, 12.0, 0.0, 0.0, 36.0, 0.0, 0.0, 51.0, *[0.0] * 6]


def test_navicache_by_hand(drive, line):
    # step 2 measures (12 − 10) / 1 = 2: 2/12 a step, three reach 0.34 at step 5, which measures (36 − 12) / 3 = 8.
    # Variance 1 + 1, gain 2 / (2 + 2): the ratio becomes 5, not 8: 5/36 a step, three at step 8 (8/36 would take two).
    # Step 8 measures 15 / 3 = 5, which changes nothing: 5/51 a step, four at step 12. Step 14 is the last.
    config = NaviCacheConfig(threshold=0.34, align_steps=2, process_noise=1.0, measurement_noise=2.0)
    assert drive(config, line(INPUTS), line(OUTPUTS)) == [1, 2, 5, 8, 12, 14]


def test_aligned_steps_overwrite_the_ratio(drive, line):
    # of four aligned steps the last measurement stands: (14 − 12) / 1 = 2, so 2/14 a step: three reach 0.34 at step 7
    outputs = [10.0, 11.0, 12.0, 14.0, *[0.0] * 10]
    config = NaviCacheConfig(threshold=0.34, align_steps=4)
    assert drive(config, line(INPUTS), line(outputs))[:5] == [1, 2, 3, 4, 7]


def test_the_cheapest_setting_computes_every_step(drive, line):
    assert drive(NaviCacheConfig(threshold=1e-9), line(INPUTS), line([10.0 + 2 * x for x in INPUTS])) == [*range(1, 15)]


def test_groups_learn_by_themselves(drive, line):
    slow, fast = [10.0 + x for x in INPUTS], [10.0 + 8 * x for x in INPUTS]
    config = NaviCacheConfig(threshold=0.3, align_steps=2, decision="sample")
    together = drive(config, line(INPUTS, INPUTS), line(slow, fast), groups=[[0], [1]])
    alone = [drive(config, line(INPUTS), line(outputs)) for outputs in (slow, fast)]
    assert together == alone and len(alone[0]) < len(alone[1])


def test_tokens_that_never_change_are_skipped_after_the_aligned_steps():
    assert fewest_steps(NaviCacheConfig(align_steps=4), 30) == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"align_steps": 1}, "align_steps must be a whole number of at least 2, got 1"),
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"process_noise": 0.0}, "process_noise must be above 0"),
        ({"measurement_noise": -1.0}, "measurement_noise must be above 0"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        NaviCacheConfig(**values)
