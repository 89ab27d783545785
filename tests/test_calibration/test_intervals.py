"""Policies that compute at intervals, TAFC's stretches of skipped steps, and starts of `guidance_reuse`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.caching.registry import config_class
from opensora_adacache.calibration.starts import GuidanceStarts
from opensora_adacache.calibration.thresholds import Intervals, Stretches


def runs(n: int) -> Any:
    """Runs of n steps whose videos are all alike."""
    return SimpleNamespace(num_steps=n, mean_steps=lambda cache: len(cache.fixed_steps(n)), mean_psnr=lambda cache: 0.0)


@pytest.mark.parametrize("name", ["TaylorSeer", "HiCache", "FoCa", "DMD", "Spectrum"])
def test_first_steps_make_up_for_intervals(name):
    kind = Intervals(runs(30))
    found = [kind.for_speedup(config_class(name)(), speedup) for speedup in (1.5, 2.2, 3)]
    assert [one.computed_steps for one in found] == [20, 14, 10]
    assert [len(one.cache.fixed_steps(30)) for one in found] == [20, 14, 10]


def test_the_shortest_interval_is_taken():
    found = Intervals(runs(30)).for_speedup(config_class("HiCache")(), 2.2).cache
    # with an interval of 2 and three first steps there are 17, with an interval of 3 and three first steps 12
    assert (found.interval, found.first_steps) == (3, 5)
    assert found.fixed_steps(30) == (1, 2, 3, 4, 5, 8, 11, 14, 17, 20, 23, 26, 29, 30)


def test_without_first_steps_the_nearest_interval_is_taken():
    found = Intervals(runs(30)).for_speedup(config_class("Static")(), 1.5)
    assert found.cache.interval == 2 and found.computed_steps == 16


def test_cached_videos_choose_among_published_values():
    tried = []

    def mean_psnr(cache):
        tried.append((cache.growth, cache.blend))
        return cache.blend * -cache.growth

    measured = runs(30)
    measured.mean_psnr = mean_psnr
    found = Intervals(measured).for_speedup(config_class("Spectrum")(), 1.5)
    assert tried == [(growth, blend) for growth in (0.0, 0.75, 3.0) for blend in (1.0, 0.5)]
    assert (found.cache.growth, found.computed_steps) == (0.0, 20)
    assert found.cache.fixed_steps(30) == (*range(1, 11), *range(12, 31, 2))


@pytest.mark.parametrize(("name", "n"), [("Static", 3), ("Spectrum", 5)])
def test_runs_that_are_too_short(name, n):
    with pytest.raises(ValueError, match="a run of so few steps leaves no settings to choose from"):
        Intervals(runs(n)).for_speedup(config_class(name)(), 1.5)


@pytest.mark.parametrize("n", [10, 30, 50, 100])
def test_a_start_of_guidance_reuse_for_each_step(n):
    every_step = StaticConfig(interval=1, guidance_reuse=GuidanceReuse())
    starts = [one.guidance_reuse for one in GuidanceStarts(runs(n)).family(every_step)]
    assert [one.first_step(n) for one in starts] == [*range(n, 1, -1)]


def stretches(first_steps: int) -> Stretches:
    """Runs that skip all that TAFC's settings allow from a threshold of 1 on; some first steps are best."""

    def mean_steps(cache: Any) -> float:
        longest = cache.max_skips + 1
        return 30 - (30 - cache.first_steps) * min(cache.threshold, 1.0) * longest / (longest + 1)

    psnr = {"mean_psnr": lambda cache: -abs(cache.first_steps - first_steps)}
    return Stretches(SimpleNamespace(num_steps=30, jobs=[0, 1], mean_steps=mean_steps, **psnr))


@pytest.mark.parametrize(
    ("speedup", "best", "expected"),
    [
        (1.5, 5, (5, 0)),
        (1.5, 8, (8, 0)),
        (1.5, 10, (10, 0)),
        (3, 14, (5, 3)),  # with eight first steps, six steps more than one in a row would leave 10.75
    ],
)
def test_the_shortest_stretches_are_taken(speedup, best, expected):
    found = stretches(best).for_speedup(config_class("TAFC")(), speedup)
    assert (found.cache.first_steps, found.cache.max_skips) == expected
    assert found.computed_steps == pytest.approx(30 / speedup, abs=0.5)


def test_a_speedup_out_of_reach():
    with pytest.raises(ValueError, match="these settings reach 8.125 to 30"):
        stretches(5).for_speedup(config_class("TAFC")(), 10)
