"""Which steps leave out the unconditional rows, and with which weights; worked out by hand."""

from __future__ import annotations

import pytest

from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.policies.planned import StaticConfig


def test_published_schedule():
    """Open-Sora 1.2 at 30 steps: rows are left out after step 11, except at multiples of 5."""
    every = range(1, 31)
    assert GuidanceReuse().left_out(every, 30) == [s for s in every if s > 11 and s % 5]
    assert GuidanceReuse(interval=1).left_out(every, 30) == []
    assert GuidanceReuse(start=1.0).left_out(every, 30) == []


@pytest.mark.parametrize("n", [30, 50, 90, 100, 180])
def test_a_start_is_a_whole_number_of_steps(n):
    """Also where the product of fraction and steps is rounded down: 0.29 · 100 is 28.999999999999996."""
    for thousandths in range(1001):
        assert GuidanceReuse(start=thousandths / 1000).first_step(n) == max(thousandths * n // 1000 + 1, 2)


def test_a_window_waits_for_a_step_that_the_policy_computes():
    """Windows of steps 3 to 5, 6 to 8 and 9 to 11. Steps 3, 6 and 9 are skipped, so 4, 7 and 11 compute all rows."""
    reuse, computed = GuidanceReuse(interval=3, start=0.2), [1, 4, 5, 7, 8, 11]
    assert reuse.first_step(11) == 3
    assert reuse.computed_steps(computed, 11) == [1, 4, 7, 11]
    assert reuse.left_out(computed, 11) == [3, 5, 6, 8, 9, 10]


def test_weights_grow_with_each_step_since_the_rows_were_computed():
    weights = GuidanceReuse().weights  # low frequencies up to step 25, high ones from step 20
    assert weights(12, 11, 30) == pytest.approx((1.15, 1.0))
    assert weights(19, 15, 30) == pytest.approx((1.15**4, 1.0))
    assert weights(24, 20, 30) == pytest.approx((1.15**4, 1.15**4))
    assert weights(27, 25, 30) == pytest.approx((1.0, 1.15**2))
    assert weights(13, 9, 30) == pytest.approx((1.15**2, 1.0)), "steps 10 and 11 left nothing out"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval": 0}, "interval must be a whole number of at least 1, got 0"),
        ({"start": 12}, "start must be a fraction from 0 to 1, got 12"),
        ({"low_factor": 0}, "low_factor must be above 0, got 0"),
        ({"high_from": "late"}, "high_from must be a fraction from 0 to 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        GuidanceReuse(**settings)


def test_a_policy_takes_only_these_settings():
    with pytest.raises(ValueError, match="guidance_reuse must be a GuidanceReuse or None, got 5"):
        StaticConfig(interval=2, guidance_reuse=5)
