"""Each policy on a toy run, against a schedule worked out by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.caching.contract import StackView
from opensora_adacache.caching.policies.bwcache import BWCacheConfig, computes
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.dpcache import DPCacheConfig
from opensora_adacache.caching.policies.easycache import EasyCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.lemica import LeMiCaConfig
from opensora_adacache.caching.policies.magcache import MagCacheConfig, magcache_steps
from opensora_adacache.caching.policies.navicache import NaviCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig
from opensora_adacache.caching.policies.seacache import SeaCacheConfig, filter_by_noise
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.policies.teacache import PUBLISHED, TeaCacheConfig
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.team import Team
from opensora_adacache.calibration.planning import (
    plan_least_sum,
    plan_least_total,
    plan_least_worst,
    split_budget,
)


def test_static(drive, line):
    inputs = line([1.0] * 10)
    assert drive(StaticConfig(interval=3), inputs) == [1, 4, 7, 10]
    assert drive(StaticConfig(interval=1), inputs) == list(range(1, 11))
    assert drive(StaticConfig(interval=4), inputs) == [1, 5, 9, 10]


def test_planned(drive, line):
    assert drive(PlannedConfig(steps=[1, 2, 5, 9]), line([1.0] * 10)) == [1, 2, 5, 9]


def test_lemica_by_hand(drive, line):
    # one reused step costs 1, two in a row cost 9: of five steps with three computed, 1-3-5 has the lowest maximum
    costs = {(1, 3): 1.0, (2, 4): 1.0, (3, 5): 1.0, (1, 4): 9.0, (2, 5): 9.0}
    steps = plan_least_worst(costs, 5, 3)
    assert steps == [1, 3, 5] and drive(LeMiCaConfig(steps=steps), line([1.0] * 5)) == [1, 3, 5]
    assert drive(LeMiCaConfig(steps=range(1, 6)), line([1.0] * 5)) == [1, 2, 3, 4, 5]


def test_dpcache_by_hand(drive, line):
    # after 1, 2: computing next at 3 costs 1, at 4 costs 2; from there to the last step 4 or 1: 1-2-4-5 is cheaper
    costs = {(1, 2, 3): 1.0, (1, 2, 4): 2.0, (2, 3, 5): 4.0, (2, 4, 5): 1.0}
    steps = plan_least_sum(costs, 5, 4)
    assert steps == [1, 2, 4, 5] and drive(DPCacheConfig(steps=steps), line([1.0] * 5)) == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("config", "first_steps"),
    [
        (TeaCacheConfig(threshold=0.3, coefficients=(2.0, 0.0)), 1),
        (EasyCacheConfig(threshold=0.3, warmup_steps=3), 3),
        (NaviCacheConfig(threshold=0.3, align_steps=4), 4),
        (DiCacheConfig(threshold=0.3, retention=0.2), 2),
        (DiCacheConfig(threshold=0.3, retention=0.0), 1),
    ],
)
def test_steps_that_always_compute_read_no_signal(drive, line, monkeypatch, config, first_steps):
    reads, read = [], Team.read
    monkeypatch.setattr(Team, "read", lambda self, sums: reads.append(sums) or read(self, sums))
    computed = drive(config, line([1.1**step for step in range(10)]))
    assert len(reads) == 10 - first_steps - 1
    assert computed[:first_steps] == [*range(1, first_steps + 1)] and computed[-1] == 10 and len(computed) < 10


def test_a_fraction_of_a_run_is_whole_steps_whatever_the_rounding():
    """0.29 · 100 is 28.999999999999996 in floating point."""
    assert magcache_steps(MagCacheConfig(ratios=(1.0,) * 99, retention=0.29), 100)[:30] == [*range(1, 30), 34]
    assert DiCacheConfig(retention=0.29).build(100, [[0]]).first_steps == 29
    assert computes(BWCacheConfig(skipped_fraction=1.0, kept_fraction=0.29), trigger=100, step=172, num_steps=200)


def test_teacache_by_hand(drive, line):
    # the input grows by a tenth per step, and the polynomial doubles it: 0.2 per step, 0.4 every second step
    inputs = line([1.1**step for step in range(9)])
    config = TeaCacheConfig(threshold=0.39, coefficients=(2.0, 0.0))
    assert drive(config, inputs) == [1, 3, 5, 7, 9]
    assert drive(TeaCacheConfig(threshold=1e-9, coefficients=(2.0, 0.0)), inputs) == list(range(1, 10))


def test_teacache_takes_published_polynomials_by_name():
    latte, ours = TeaCacheConfig(coefficients="Latte"), TeaCacheConfig(coefficients="Open-Sora 1.2")
    assert latte.coefficients == PUBLISHED["Latte"] and ours == TeaCacheConfig()
    assert latte.misfit(50, "LatteTransformer3DModel") is None and ours.misfit(30, None) is None
    assert "was published for Latte, not for Open-Sora 1.2" in latte.misfit(30, None)
    assert "was published for Open-Sora 1.2, not for WanTransformer3DModel" in ours.misfit(30, "WanTransformer3DModel")
    assert TeaCacheConfig(coefficients=(1, 0)).misfit(30, "WanTransformer3DModel") is None
    with pytest.raises(ValueError, match="published for 'Late', did you mean 'Latte'"):
        TeaCacheConfig(coefficients="Late")


def test_teacache_decides_per_group(drive, line):
    still, moving = [1.0] * 7, [1.5**step for step in range(7)]
    inputs = line(still, moving, still, moving)
    config = TeaCacheConfig(threshold=0.9, coefficients=(1.0, 0.0), decision="sample")
    assert drive(config, inputs, groups=[[0, 2], [1, 3]]) == [[1, 7], [1, 3, 5, 7]]


def test_easycache_by_hand(drive, line):
    # the input changes by 1 per step, the output by 2: K = 2, output 10 at steps 1..3, so 0.2 per step after the third
    inputs = line([float(step) for step in range(12)])
    outputs = line([10.0 + 2 * step for step in range(12)])
    config = EasyCacheConfig(threshold=0.27, warmup_steps=3)
    # after step 3 (out 14): 2/14 a step, two reach 0.286 at 5; then (18): 2/18, three at 8; then (24): 2/24, four at 12
    assert drive(config, inputs, outputs) == [1, 2, 3, 5, 8, 12]
    assert drive(EasyCacheConfig(threshold=1e-9), inputs, outputs) == list(range(1, 13))


def test_easycache_keeps_no_graph_of_a_step(line):
    """With gradients, which nobody has switched off: its ratio would hold the tensors of its last computed step."""
    policy, store = EasyCacheConfig().build(4, [[0]]), ResidualStore()
    for step, x in enumerate(line([1.0, 2.0, 4.0]), start=1):
        x.requires_grad_(step < 3)
        view = StackView(step, x, torch.tensor([900.0]), 1, (1, 1), None, lambda x=x: x, store)
        sums = policy.measure(view)
        if step < 3:
            policy.observe_output(view, 2 * x, None)
    assert sums.tolist() == [[2.0, 4.0, 2.0, 1.0]] and not sums.requires_grad


def test_fbcache_by_hand(drive, line):
    # grows by a tenth per step: 0.1, 0.21, 0.33 relative to the last computed step; computes where 0.3 is reached
    assert drive(FBCacheConfig(threshold=0.3), line([1.1**step for step in range(9)])) == [1, 4, 7]
    # it returns to its earlier value: the comparison is with the last computed step, not with the previous step
    assert drive(FBCacheConfig(threshold=0.3), line([1.0, 1.2, 1.0, 1.2, 1.5, 1.2])) == [1, 5]
    assert drive(FBCacheConfig(threshold=1e-9), line([1.1**step for step in range(4)])) == [1, 2, 3, 4]


def test_magcache_by_hand():
    # γ = 0.9: errors 0.1, then 0.1 + 0.19 = 0.29: one skip stays below 0.2, then compute
    config = MagCacheConfig(ratios=(0.9,) * 9, threshold=0.2, max_skips=4, retention=0.2)
    assert magcache_steps(config, 10) == [1, 2, 4, 6, 8, 10]
    # γ = 1 never has an error, so only max_skips stops skipping
    assert magcache_steps(MagCacheConfig(ratios=(1.0,) * 9, max_skips=3, retention=0.2), 10) == [1, 2, 6, 10]


def test_taylorseer(drive, line):
    assert drive(TaylorSeerConfig(interval=4, first_steps=3), line([1.0] * 14)) == [1, 2, 3, 7, 11, 14]
    assert drive(TaylorSeerConfig(interval=1), line([1.0] * 5)) == [1, 2, 3, 4, 5]


def test_seacache_without_noise_sees_the_plain_change(drive):
    # near timestep 0 the filter is flat, so the signal is the plain relative change: a tenth per step
    inputs = [torch.ones(2, 4, 3) * 1.1**step for step in range(8)]
    assert drive(SeaCacheConfig(threshold=0.29), inputs, timesteps=[1e-3] * 8) == [1, 4, 7, 8]
    assert drive(SeaCacheConfig(threshold=1e-9), inputs) == list(range(1, 9))


def test_seacache_filter_keeps_low_frequencies_under_noise():
    grid = torch.zeros(1, 1, 8, 8, 1)
    grid[..., 0] = torch.tensor([1.0, -1.0] * 4)  # the highest frequency along width
    low = torch.ones_like(grid)
    noisy = filter_by_noise(grid + low, 0.95)
    # g(0.5) / g(0) = (0.05 · 8 / (0.05² · 8 + 0.95²)) / (1 / 0.05)
    assert (noisy - noisy.mean()).abs().mean() / noisy.mean() == pytest.approx(0.4 / 0.9225 / 20, rel=1e-3)
    clean = filter_by_noise(grid + low, 1e-6)
    torch.testing.assert_close(clean, grid + low, atol=1e-3, rtol=1e-3)


def schedules(num_steps, num_computed, first):
    rest = range(len(first) + 1, num_steps)
    for middle in itertools.combinations(rest, num_computed - len(first) - 1):
        yield [*first, *middle, num_steps]


@given(st.integers(0, 999), st.integers(3, 6))
def test_lemica_plan_is_the_best_of_all(seed, num_computed):
    generator = torch.Generator().manual_seed(seed)
    costs = {(i, j): torch.rand((), generator=generator).item() for i in range(1, 9) for j in range(i + 2, 9)}

    def worst(steps):
        pairs = zip(steps, steps[1:], strict=False)
        return sorted((costs.get(pair, 0.0) for pair in pairs), reverse=True)

    best = min(schedules(8, num_computed, [1]), key=worst)
    assert worst(plan_least_worst(costs, 8, num_computed)) == worst(best)


@given(st.integers(0, 999), st.integers(3, 6))
def test_dpcache_plan_is_the_best_of_all(seed, num_computed):
    generator = torch.Generator().manual_seed(seed)
    costs = {key: torch.rand((), generator=generator).item() for key in itertools.combinations(range(1, 9), 3)}

    def total(steps):
        return sum(costs[triple] for triple in zip(steps, steps[1:], steps[2:], strict=False))

    best = min(schedules(8, num_computed, [1, 2]), key=total)
    assert total(plan_least_sum(costs, 8, num_computed)) == pytest.approx(total(best))


@given(st.integers(0, 999), st.integers(2, 7))
def test_least_total_plan_is_the_best_of_all(seed, num_computed):
    generator = torch.Generator().manual_seed(seed)
    costs = {key: torch.rand((), generator=generator).item() for key in itertools.combinations(range(1, 9), 2)}

    def total(steps):
        return sum(costs[pair] for pair in itertools.pairwise(steps))

    best = min(schedules(8, num_computed, [1]), key=total)
    assert total(plan_least_total(costs, 8, num_computed)) == pytest.approx(total(best))


@given(st.integers(0, 999), st.integers(3, 12))
def test_the_split_of_a_budget_is_the_best_of_all(seed, budget):
    generator = torch.Generator().manual_seed(seed)
    totals = [{k: torch.rand((), generator=generator).item() for k in (1, 2, 3, 4)} for _ in range(3)]

    def total(split):
        return sum(video[steps] for video, steps in zip(totals, split, strict=True))

    best = min((s for s in itertools.product(range(1, 5), repeat=3) if sum(s) == budget), key=total)
    found = split_budget(totals, budget)
    assert sum(found) == budget and total(found) == pytest.approx(total(best))


def test_a_budget_that_cannot_be_split():
    with pytest.raises(ValueError, match="no split of 9 computed steps over 2 videos"):
        split_budget([{2: 1.0, 3: 0.5}, {2: 1.0}], 9)


def test_impossible_plans():
    with pytest.raises(ValueError, match="no schedule computes 2 of 8 steps"):
        plan_least_worst({}, 8, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StaticConfig(interval=0), "interval must be a whole number of at least 1, got 0"),
        (lambda: PlannedConfig(steps=(2, 3)), "begin with 1"),
        (lambda: PlannedConfig(steps=(1, 9)).check_run(5, 4), r"planned steps must lie in 1\.\.5, got 9"),
        (lambda: TeaCacheConfig(threshold=0), "threshold must be above 0, got 0"),
        (lambda: TeaCacheConfig(coefficients=("a",)), "coefficients must be numbers"),
        (lambda: SeaCacheConfig(threshold=-1), "threshold must be above 0"),
        (lambda: EasyCacheConfig(warmup_steps=1), "warmup_steps must be a whole number of at least 2, got 1"),
        (lambda: MagCacheConfig(), "calibrate them on this model"),
        (lambda: MagCacheConfig(ratios=(1.0,) * 9).check_run(30, 4), "ratios belong to 10 steps, but the run has 30"),
        (lambda: TaylorSeerConfig(order=3), "order must be one of 0, 1, 2, got 3"),
        (lambda: StaticConfig(decision="video"), "decision must be one of batch, sample"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
