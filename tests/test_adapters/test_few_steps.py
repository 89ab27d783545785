"""A run of few steps says how much a cache can save at most."""

from __future__ import annotations

import warnings

import pytest

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.adapters.few_steps import warn_of_few_steps
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.dry_run import fewest_steps
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig
from opensora_adacache.errors.family import AdaCacheWarning


def warnings_of(config, steps):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_few_steps(config, steps)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("config", "steps", "least"),
    [
        (AdaCacheConfig({0.1: 6, 1.0: 1}), 4, 4),  # 1 and 2, before the first measurement, and the last two
        (AdaCacheConfig({0.1: 6, 1.0: 1}), 8, 4),  # 1, 2, 7, 8; after 2 a rate of 6 leads to 8
        (AdaCacheConfig({0.1: 6, 1.0: 1}, moreg=MoRegConfig(steps=(2, 6))), 8, 4),
        (AdaCacheConfig({0.1: 1, 1.0: 3}), 8, 5),  # the largest rate is at large distances: 1, 2, 5, 7, 8
        (StaticConfig(3), 7, 3),  # 1, 4, 7
        (ForecastCacheConfig(computed_steps=5), 8, 5),
        (ForecastCacheConfig(tolerance=1.0), 8, 5),  # 1 to 4, then at most a third of the run, 3 steps: 7
    ],
)
def test_the_fewest_steps_by_hand(config, steps, least):
    assert fewest_steps(config, steps) == least


def test_what_it_says():
    codebook = AdaCacheConfig({0.1: 6, 1.0: 1})
    assert warnings_of(codebook, 8) == [
        "a run of 8 steps is short: AdaCache computes at least 4 of them, so it makes this model at most 2.00 times as "
        "fast"
    ]
    assert warnings_of(codebook, 4) == [
        "a run of 4 steps is short: AdaCache computes at least 4 of them, so it saves nothing"
    ]
    assert not warnings_of(codebook, 9)


class ByStep(CacheConfig):
    """A policy from outside, of which nothing is known."""

    def build(self, num_sampling_steps, groups):
        raise NotImplementedError


@pytest.mark.parametrize(
    "config", [AdaCacheConfig({1.0: 1}), StaticConfig(1), PlannedConfig(steps=(1, 2, 3, 4)), ByStep()]
)
def test_settings_that_skip_nothing_or_are_unknown_say_nothing(config):
    assert not warnings_of(config, 4)


def test_it_warns_once_for_a_session(tiny_models):
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    with pytest.warns(AdaCacheWarning, match="Static computes at least 3 of them") as caught:
        session = apply_cache(model, StaticConfig(2), 4)
        tiny.sample(model, steps=4)
        tiny.sample(model, steps=4)
        session.detach()
    assert len(caught) == 1
