"""When ForecastCache computes: schedules worked out by hand, and general properties."""

from __future__ import annotations

import sys
from itertools import combinations
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.caching.forecast.config import ForecastCacheConfig, PlannedForecastConfig, first_steps
from opensora_adacache.caching.forecast.schedule import StretchCosts, resample


def run_batch(config, num_steps, *errors):
    """Return the computed steps of each video if ``error(step, gap)`` is the relative error of a forecast."""
    policy = config.build(num_steps, [[video] for video in range(len(errors))])
    steps = [[] for _ in errors]
    for step in range(1, num_steps + 1):
        computed = [schedule.next_step <= step for schedule in policy.schedules]
        if any(computed):
            did = [video for video, flag in enumerate(computed) if flag]
            policy.observe_forecast({v: (errors[v](step, step - steps[v][-1]) ** 2, 1.0) for v in did if steps[v]})
            policy.end_computed_step(step, computed, [])
        for taken, did in zip(steps, computed, strict=True):
            taken += [step] * did
    return steps


def run(config, num_steps, error):
    """Return the computed steps of one video."""
    return run_batch(config, num_steps, error)[0]


def test_a_tolerance_by_hand():
    # error 0.1 · gap²: k skipped steps accumulate 0.1 · (1 + 4 + … + k²) / 20: 0.005, 0.025, 0.07
    config = ForecastCacheConfig(tolerance=0.03)
    assert run(config, 20, lambda step, gap: 0.1 * gap**2) == [1, 2, 3, 4, 6, 9, 12, 15, 18]
    assert run(config, 20, lambda step, gap: 1.0 * gap**2) == list(range(1, 21))


def test_threads_share_the_costs_of_a_profile():
    """Two pipelines that begin at once: what one thread works out is not counted twice by the other."""
    profile = [1.0 + step / 40 for step in range(40)]
    alone = StretchCosts(profile, profile, 1.0)
    expected = [alone.worst(number) for number in range(12)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(3):
            shared, begin, found = StretchCosts(profile, profile, 1.0), Barrier(2), []

            def work(shared=shared, begin=begin, found=found):
                begin.wait()
                found.append([shared.worst(number) for number in range(11, -1, -1)])

            threads = [Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert found == [expected[::-1]] * 2
    finally:
        sys.setswitchinterval(interval)


def test_errors_count_by_sensitivity():
    # errors in the second half harm three times as much: one skipped step exceeds 0.03 instead of two, so intervals of
    # 2 in the second half, and 2 of 3 in the first; among equally good plans, the one with the shortest first interval
    config = ForecastCacheConfig(tolerance=0.03, sensitivity=(1.0,) * 10 + (3.0,) * 10)
    assert run(config, 20, lambda step, gap: 0.1 * gap**2) == [1, 2, 3, 4, 5, 8, 11, 13, 15, 17, 19]


def test_a_tolerance_allows_no_gap_longer_than_a_third_of_the_run():
    assert run(ForecastCacheConfig(tolerance=1.0), 30, lambda step, gap: 0.0) == [1, 2, 3, 4, 14, 24]


def test_a_budget_by_hand():
    # equal errors everywhere: 17 steps in five intervals, none longer than 4; the first is as short as that allows
    assert run(ForecastCacheConfig(computed_steps=8), 20, lambda step, gap: 0.1 * gap**2) == [1, 2, 3, 4, 5, 9, 13, 17]


def test_the_last_stretch_is_not_corrected():
    # a last interval of 4 would cost twice as much as one in between, so it is 3
    config = ForecastCacheConfig(computed_steps=8, corrector=0.5)
    assert run(config, 20, lambda step, gap: 0.1 * gap**2) == [1, 2, 3, 4, 6, 10, 14, 18]


def test_a_budget_goes_where_errors_are_expected():
    even = ForecastCacheConfig(computed_steps=10)
    late = ForecastCacheConfig(computed_steps=10, growth=(1.0,) * 5 + (50.0,) * 5)
    assert sum(step > 20 for step in run(late, 40, lambda step, gap: 0.01 * gap**2)) > sum(
        step > 20 for step in run(even, 40, lambda step, gap: 0.01 * gap**2)
    )


@given(st.data())
def test_a_budget_is_spent_exactly(data):
    num_steps = data.draw(st.integers(3, 60))
    first = first_steps(num_steps)
    budget = data.draw(st.integers(first, num_steps))
    errors = data.draw(st.lists(st.floats(0, 5), min_size=num_steps, max_size=num_steps))
    profile = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12))
    config = ForecastCacheConfig(computed_steps=budget, growth=profile, sensitivity=profile[::-1])
    steps = run(config, num_steps, lambda step, gap: errors[step - 1])
    assert len(steps) == budget and steps[:first] == list(range(1, first + 1))


SHARED = {"budget_over": "batch", "decision": "sample"}


def test_a_shared_budget_goes_to_the_video_that_errs_more():
    config = ForecastCacheConfig(computed_steps=9, **SHARED)
    calm, wild = run_batch(config, 30, lambda step, gap: 0.001 * gap**2, lambda step, gap: 0.05 * gap**2)
    assert len(calm) + len(wild) == 18 and len(calm) + 3 < len(wild)
    equal = run_batch(config, 30, lambda step, gap: 0.01 * gap**2, lambda step, gap: 0.01 * gap**2)
    assert abs(len(equal[0]) - len(equal[1])) <= 1


@given(st.data())
def test_a_shared_budget_is_spent_exactly(data):
    num_steps, num_videos = data.draw(st.integers(3, 40)), data.draw(st.integers(1, 4))
    budget = data.draw(st.integers(first_steps(num_steps), num_steps))
    numbers = st.lists(st.floats(0, 5), min_size=num_steps, max_size=num_steps)
    errors = [data.draw(numbers) for _ in range(num_videos)]
    profile = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
    config = ForecastCacheConfig(computed_steps=budget, growth=profile, sensitivity=profile[::-1], **SHARED)
    steps = run_batch(config, num_steps, *(lambda step, gap, own=own: own[step - 1] for own in errors))
    assert sum(map(len, steps)) == budget * num_videos and all(s[:3] == [1, 2, 3] for s in steps)


@given(st.floats(1e-4, 1.0), st.floats(1.01, 3), st.floats(1e-6, 2))
def test_a_higher_tolerance_never_computes_more_steps(tolerance, factor, growth):
    def error(step, gap):
        return growth * gap**2

    few, many = (len(run(ForecastCacheConfig(tolerance=t), 40, error)) for t in (tolerance * factor, tolerance))
    assert few <= many


@given(st.integers(0, 6), st.lists(st.floats(1e-2, 1e2), min_size=9, max_size=9))
def test_the_best_plan_is_that_of_trying_them_all(num_computed, profile):
    costs = StretchCosts(profile, profile[::-1], 2.0)
    found = []
    for steps in combinations(range(3, 10), num_computed):
        stretches = zip((2, *steps), (*steps, 10), strict=True)
        found.append(max(costs.per_growth[a][b - a - 1] * costs.growth[a - 1] for a, b in stretches))
    assert costs.worst(num_computed)[2] == pytest.approx(min(found))


@pytest.mark.parametrize(("speedup", "budget"), [(1, 30), (1.5, 20), (2.2, 14), (3, 10)])
def test_a_speedup_is_a_budget(speedup, budget):
    assert ForecastCacheConfig(speedup=speedup).budget(30) == budget


def test_resampling_keeps_the_mean_of_a_profile_about_the_same():
    assert resample([2.0], 3) == [2.0] * 3
    assert resample([1.0, 2.0, 3.0], 3) == [1.0, 2.0, 3.0]
    assert sum(resample([4.0, 1.0, 0.5, 0.5], 100)) / 100 == pytest.approx(1.5, rel=0.05)


def test_guidance_branches_are_pooled_and_videos_are_not():
    policy = ForecastCacheConfig(tolerance=0.1).build(30, [[0, 2], [1, 3]])
    policy.end_computed_step(1, [True, True], [])
    policy.observe_forecast({0: (1.0, 100.0), 1: (0.0, 1.0), 2: (3.0, 300.0), 3: (0.0, 1.0)})
    decisions = policy.end_computed_step(2, [True, True], [])
    assert [decision.distance for decision in decisions] == pytest.approx([0.1, 0.0])
    policy.observe_forecast({1: (4.0, 16.0), 3: (0.0, 0.0)})  # only the second video
    decisions = policy.end_computed_step(3, [False, True], [])
    assert decisions[0] is None and decisions[1].distance == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "one of tolerance, computed_steps, speedup, got none"),
        ({"tolerance": 0.1, "speedup": 2}, "got tolerance and speedup"),
        ({"tolerance": 0.0}, "above 0"),
        ({"speedup": 0.5}, "at least 1"),
        ({"computed_steps": 0}, "at least 1"),
        ({"speedup": 2, "order": 3}, "one of 1, 2"),
        ({"speedup": 2, "corrector": 1.0}, "below 1"),
        ({"speedup": 2, "corrector": -0.1}, "from 0"),
        ({"speedup": 2, "budget_over": "file"}, "budget_over"),
        ({"speedup": 2, "budget_over": "batch"}, 'decision="sample"'),
        ({"tolerance": 1.0, **SHARED}, "give computed_steps or speedup"),
        ({"speedup": 2, "growth": ()}, "growth must be numbers above 0"),
        ({"speedup": 2, "sensitivity": (1.0, -1.0)}, "sensitivity must be numbers above 0"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        ForecastCacheConfig(**changes)


def test_a_budget_that_the_run_cannot_spend():
    with pytest.raises(ValueError, match="can compute 4 to 10 of them"):
        ForecastCacheConfig(computed_steps=11).check_run(10, 6)
    with pytest.raises(ValueError, match="got a budget of 2"):
        ForecastCacheConfig(speedup=5).check_run(10, 6)
    with pytest.raises(ValueError, match="can compute 10 to 100 of them"):
        ForecastCacheConfig(computed_steps=9).check_run(100, 6)


def test_a_planned_forecast_has_an_order():
    assert PlannedForecastConfig(steps=(1, 2, 5), order=2).num_extra_residuals == 2
    with pytest.raises(ValueError, match="order must be one of 1, 2, got 0"):
        PlannedForecastConfig(steps=(1, 2), order=0)
