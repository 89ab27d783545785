"""Policies that compute at intervals, for a number of computed steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from opensora_adacache.caching.registry import config_class
from opensora_adacache.calibration.thresholds import Intervals


def runs(n: int) -> Any:
    """Runs of n steps of which only the number is asked."""
    return SimpleNamespace(num_steps=n, mean_steps=lambda cache: len(cache.fixed_steps(n)))


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
