"""Every predictor with every kind of decision on the real STDiT3."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig
from opensora_adacache.caching.predictors import PREDICTORS
from opensora_adacache.caching.trace import computed_steps

STEPS = 12
DECISIONS = {
    "static": StaticConfig(interval=3),
    "planned": PlannedConfig(steps=(1, 2, 3, 6, 9)),
    "budget": ForecastCacheConfig(speedup=2, sensitivity=(2.0, 0.5)),
    "tolerance": ForecastCacheConfig(tolerance=0.02, sensitivity=(2.0, 0.5), decision="sample"),
    "threshold": FBCacheConfig(threshold=0.12),
    "codebook": AdaCacheConfig({10.0: 3, 11.0: 1}, decision="sample", corrector=0.5),
}

QUICK = {("budget", "hermite"), ("tolerance", "line")}


@pytest.mark.parametrize(
    ("decision", "predictor"),
    [
        pytest.param(decision, predictor, marks=() if (decision, predictor) in QUICK else pytest.mark.slow)
        for decision in DECISIONS
        for predictor in PREDICTORS
    ],
)
def test_they_can_be_combined(golden_model, sample, decision, predictor):
    config = replace(DECISIONS[decision], predictor=predictor)
    plain = sample(golden_model, 2)
    with apply_cache(golden_model, config, STEPS) as session:
        first, traces = sample(golden_model, 2), session.traces
        held = session.peak_cache_bytes
        assert session.cache_bytes() == 0  # the residuals are freed after the last step
        second = sample(golden_model, 2)
    assert torch.equal(first, second) and not torch.equal(first, plain)
    assert 2 <= min(len(computed_steps(trace)) for trace in traces) < STEPS
    tensors = 5 if predictor == "chebyshev" else 1 + PREDICTORS[predictor]  # in float32 as the others are
    assert held >= tensors * 4 * 3 * 16 * 64 * 4  # rows, frames, patches, channels, bytes
    if decision in ("budget", "tolerance"):
        assert all(trace[1].distance is not None for trace in traces)  # the error of the forecast


def test_the_policys_own_predictor_by_name_gives_the_same_video(golden_model, sample):
    config = ForecastCacheConfig(speedup=2, sensitivity=(2.0, 0.5), order=2)
    videos = []
    for named in (config, replace(config, order=1, predictor="measured-2")):
        with apply_cache(golden_model, named, STEPS):
            videos.append(sample(golden_model))
    assert torch.equal(*videos)
