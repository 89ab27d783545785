"""The AdaCache rule on plain numbers, against schedules worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.caching.adacache import AdaCacheConfig, AdaCacheSchedule, SiteMeasurement
from opensora_adacache.caching.moreg import MoRegConfig


def run(config, num_steps, change_of):
    """Return computed steps and decisions of a run; `change_of(step, gap)` gives ‖new − old‖₁ for ‖old‖₁ = 1."""
    schedule, computed, decisions = AdaCacheSchedule(config, num_steps), [], []
    for step in range(1, num_steps + 1):
        if schedule.computes(step):
            sites = [SiteMeasurement(change_of(step, step - computed[-1]), 1.0)] if computed else []
            decisions.append(schedule.end_computed_step(step, sites))
            computed.append(step)
    return computed, decisions


def test_constant_distance_by_hand():
    # a distance of 0.1 per step is below 0.2: rate 3; step 2 decides first, 19 and 20 are forced
    computed, decisions = run(AdaCacheConfig({0.05: 6, 0.2: 3, 1.0: 1}), 20, lambda step, gap: 0.1 * gap)
    assert computed == [1, 2, 5, 8, 11, 14, 17, 19, 20]
    assert decisions[0] is None and decisions[1].rate == 3 and decisions[1].distance == pytest.approx(0.1)


def test_a_forced_step_divides_by_the_rate_in_force():
    # at step 19 only two steps have passed, but the current rate is 3: 0.2 / 3
    _, decisions = run(AdaCacheConfig({0.05: 6, 0.2: 3, 1.0: 1}), 20, lambda step, gap: 0.1 * gap)
    assert decisions[-2].distance == pytest.approx(0.2 / 3)


def test_falling_distance_by_hand():
    # a change of 0.5 until step 6, then none: rates 1 1 1 1 1, then 4
    config = AdaCacheConfig({0.1: 4, 1.0: 1})
    computed, _ = run(config, 16, lambda step, gap: 0.5 * gap if step <= 6 else 0.0)
    assert computed == [1, 2, 3, 4, 5, 6, 7, 11, 15, 16]


def test_sites_are_averaged_and_the_last_one_has_the_motion():
    config = AdaCacheConfig({0.3: 2, 1.0: 1}, moreg=MoRegConfig(steps=(1, 9), center=0.5, power=1, gradient_weight=0))
    schedule = AdaCacheSchedule(config, 9)
    schedule.end_computed_step(1, [])
    sites = [SiteMeasurement(0.2, 1.0, [(1.0, 1.0)]), SiteMeasurement(0.6, 1.0, [(1.0, 4.0)])]
    decision = schedule.end_computed_step(2, sites)
    assert decision.distance == pytest.approx(0.4) and decision.motion == 0.5
    assert decision.rate == 2  # 0.4 · 0.5 < 0.3


def test_motion_gradient_is_kept_per_site_and_divided_by_the_rate():
    config = AdaCacheConfig({0.3: 4, 1.0: 1}, moreg=MoRegConfig(steps=(4, 8), center=1, power=1, gradient_weight=10))
    schedule = AdaCacheSchedule(config, 20)
    schedule.end_computed_step(1, [])
    outside = schedule.end_computed_step(2, [SiteMeasurement(0.1, 1.0)])
    assert (outside.motion, outside.motion_gradient, outside.rate) == (1.0, 0.0, 4)
    inside = schedule.end_computed_step(6, [SiteMeasurement(0.4, 1.0, [(1.0, 2.0)])])
    assert inside.motion == 0.5 and inside.motion_gradient == pytest.approx(10 * (0.5 - 1) / 4)
    assert inside.distance == pytest.approx(0.1) and inside.rate == 4  # 0.1 · (0.5 + 1.25) < 0.3


def test_an_image_has_no_motion_to_count():
    config = AdaCacheConfig({0.3: 4, 1.0: 1}, moreg=MoRegConfig(steps=(1, 8)))
    schedule = AdaCacheSchedule(config, 20)
    schedule.end_computed_step(1, [])
    assert schedule.end_computed_step(2, [SiteMeasurement(0.1, 1.0, [(0.0, 0.0)])]).motion == 1.0


books = st.lists(st.integers(1, 12), min_size=1, max_size=6).map(
    lambda rates: {i / 10: r for i, r in enumerate(rates, 1)}
)


@given(books, st.integers(1, 60), st.lists(st.floats(0, 2), min_size=60, max_size=60))
def test_first_and_last_steps_compute_and_gaps_keep_to_the_codebook(book, num_steps, changes):
    computed, _ = run(AdaCacheConfig(book), num_steps, lambda step, gap: changes[step - 1])
    assert {1, min(2, num_steps), max(num_steps - 1, 1), num_steps} <= set(computed)
    gaps = {late - early for early, late in zip(computed, computed[1:], strict=False)}
    assert max(gaps, default=1) <= max(book.values())


@given(st.integers(1, 60), st.lists(st.floats(0, 2), min_size=60, max_size=60))
def test_rates_of_one_compute_every_step(num_steps, changes):
    computed, _ = run(AdaCacheConfig({0.1: 1, 1.0: 1}), num_steps, lambda step, gap: changes[step - 1])
    assert computed == list(range(1, num_steps + 1))
