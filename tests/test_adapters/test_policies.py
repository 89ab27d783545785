"""Every policy on the real STDiT3: its cheapest setting equals the plain model, and skipped steps run no block."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.adapters.stdit3.sites import block_sites
from opensora_adacache.caching.forecast.config import ForecastCacheConfig, PlannedForecastConfig
from opensora_adacache.caching.policies.bwcache import BWCacheConfig
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.pab import PABConfig
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.caching.policies.tgate import TGATEConfig
from opensora_adacache.caching.registry import POLICIES, config_class
from opensora_adacache.caching.residuals.corrector import Corrector
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.sites import SiteCacheConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.schedulers import RFLOW

STEPS = 12
SITE_POLICIES = [name for name in POLICIES if issubclass(config_class(name), SiteCacheConfig)]


def test_every_policy_is_tried(policy_settings):
    assert policy_settings.keys() == POLICIES.keys()
    assert all(type(setting) is config_class(name) for name, pair in policy_settings.items() for setting in pair)


@pytest.mark.parametrize("name", POLICIES)
def test_the_cheapest_setting_is_bit_identical_to_no_cache(golden_model, name, policy_settings, sample):
    plain = sample(golden_model)
    with apply_cache(golden_model, policy_settings[name][0], STEPS) as session:
        cached = sample(golden_model)
    assert torch.equal(plain, cached) and len(computed_steps(session.trace)) == STEPS


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - {*SITE_POLICIES, "Foresight"}))
def test_skipped_steps_run_no_block(golden_model, name, policy_settings, sample):
    calls = []
    golden_model.temporal_blocks[0].mlp.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    with apply_cache(golden_model, policy_settings[name][1], STEPS) as session:
        first = sample(golden_model)
        second = sample(golden_model)
    steps = computed_steps(session.trace)
    assert torch.equal(first, second) and len(calls) == 2 * len(steps)
    assert 2 <= len(steps) < STEPS and 1 in steps


def count_calls(model):
    """Count the calls of the module at each site."""
    calls = Counter()
    modules = {"attn": "attn", "cross": "cross_attn", "mlp": "mlp"}
    for block, site in block_sites(model):
        module = getattr(block, modules[site.kind])
        module.register_forward_pre_hook(lambda module, inputs, site=site: calls.update([site]))
    return calls


@pytest.mark.parametrize("decision", ["batch", "sample"])
@pytest.mark.parametrize("name", SITE_POLICIES)
def test_reused_sites_run_nothing(golden_model, name, decision, policy_settings, sample):
    config = replace(policy_settings[name][1], decision=decision)
    calls = count_calls(golden_model)
    timesteps = RFLOW(STEPS, use_timestep_transform=False).timesteps()
    sites = [site for _, site in block_sites(golden_model)]
    expected = {
        site: sum(config.computes(step, timesteps[:step], site) for step in range(1, STEPS + 1)) for site in sites
    }
    with apply_cache(golden_model, config, STEPS) as session:
        first = sample(golden_model)
        assert dict(calls) == expected and min(expected.values()) < STEPS
        shares = [record.share for record in session.trace]
        assert sum(shares) * len(sites) == pytest.approx(sum(expected.values())) and all(shares)
        assert computed_steps(session.trace) == list(range(1, STEPS + 1))
        assert torch.equal(first, sample(golden_model))
        residual = 2 * 3 * 16 * 64 * 4  # rows, frames, patches, channels, bytes
        stored = config.residuals_per_site * sum(config.stores(site) for site in sites)
        held = 1 if name == "DeltaDiT" else stored
        assert session.peak_cache_bytes == held * residual and session.cache_bytes() == 0


def test_blocks_before_a_reused_one_do_not_run(golden_model, policy_settings, sample):
    calls = Counter()
    for place, block in enumerate(golden_model.blocks()):
        block.mlp.register_forward_pre_hook(lambda module, inputs, place=place: calls.update([place]))
    with apply_cache(golden_model, policy_settings["Foresight"][1], STEPS) as session:
        first = sample(golden_model)
        shares = [float(record.computed) if record.share is None else record.share for record in session.trace]
        counts = [calls[place] for place in range(len(golden_model.blocks()))]
        assert sum(counts) == pytest.approx(sum(shares) * len(counts))
        assert counts == [9] * 6 + [10] * 2 and set(shares) == {0.0, 0.25, 1.0}  # at step 6 the last layer runs alone
        assert torch.equal(first, sample(golden_model))
        assert session.peak_cache_bytes == len(counts) * 2 * 3 * 16 * 64 * 4  # rows, frames, patches, channels, bytes


@pytest.mark.parametrize("name", ["Foresight", pytest.param("BWCache", marks=pytest.mark.slow)])
def test_videos_of_a_batch_reuse_what_they_would_reuse_alone(golden_model, policy_settings, name):
    config = replace(policy_settings[name][1], decision="sample")
    x = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def run(*videos):
        """Both branches of each video; the second video stands still after step 4."""
        rows, outs = [*videos] * 2, []
        size = {key: torch.full((len(rows),), 64.0) for key in ("fps", "height", "width")}
        with apply_cache(golden_model, config, STEPS) as session:
            for step in range(STEPS):
                z = torch.stack([x[row] * 0.9 ** (min(step, 4) if row else step * step / 4) for row in rows])
                t = torch.full((len(rows),), 1000.0 - 80 * step)
                outs.append(golden_model(z, t, y[rows], **size))
        return outs, [[(record.computed, record.distance) for record in trace] for trace in session.traces]

    together, traces = run(0, 1)
    assert traces[0] != traces[1]
    for video in (0, 1):
        alone, (trace,) = run(video)
        assert [computed for computed, _ in traces[video]] == [computed for computed, _ in trace]
        for several, single in zip(together, alone, strict=True):
            torch.testing.assert_close(several[video::2], single)


def test_reused_sites_add_what_they_added_before(golden_model):
    """One step of reuse by hand: the blocks with the residuals of the previous step where the schedule reuses."""
    config = TGATEConfig(gate_step=2, interval=2)  # step 2 reuses self-attention
    x, timestep = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((2,), 900.0)
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {"fps": torch.full((2,), 8.0), "height": torch.full((2,), 64.0), "width": torch.full((2,), 64.0)}
    kept = {}

    def keep(block, original):
        def residual(x, inputs):
            kept.setdefault(block, original(x, inputs))
            return kept[block]

        return residual

    with torch.no_grad():
        with apply_cache(golden_model, config, 2):
            cached = [golden_model(x * scale, timestep, y, **size) for scale in (1.0, 0.9)]
        for block in golden_model.blocks():
            block.attention_residual = keep(block, block.attention_residual)
        by_hand = [golden_model(x * scale, timestep, y, **size) for scale in (1.0, 0.9)]
    assert torch.equal(cached[0], by_hand[0]) and torch.equal(cached[1], by_hand[1])


def test_a_schedule_that_reuses_every_site_counts_as_reused(golden_model, sample):
    config = PABConfig(spatial=2, temporal=2, cross=2, window=(0, 1001), mlp_timesteps=(1000,), mlp_layers=range(4))
    with apply_cache(golden_model, config, STEPS) as session:
        sample(golden_model)
    second, fourth = session.trace[1], session.trace[3]
    assert (second.computed, second.share, second.rows_computed) == (False, 0.0, 0)
    assert fourth.computed and fourth.share == pytest.approx(1 / 3)  # the MLPs


@pytest.mark.parametrize(("name", "reads"), [("PAB", True), ("TGATE", False), ("DeltaDiT", False)])
def test_only_schedules_of_timesteps_read_them(name, reads, policy_settings):
    assert policy_settings[name][1].build(STEPS, [[0, 1]]).needs_timestep == reads


@pytest.mark.parametrize("name", SITE_POLICIES)
def test_clean_frames_and_masks_work(golden_model, name, policy_settings, random_text):
    """With frames kept clean, each reused residual contains the gate of its frame."""
    z = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    size = {key: torch.full((1,), 64.0) for key in ("height", "width", "fps")}
    sampler = RFLOW(STEPS, use_timestep_transform=False)

    def run(config):
        generator = torch.Generator().manual_seed(2)
        mask = torch.tensor([[0.0, 1.0, 0.5]])
        with apply_cache(golden_model, config, STEPS):
            return sampler.sample(
                golden_model, random_text(golden_model), z, ["p"], "cpu", size, mask, generator=generator
            )

    plain, cached = (run(config) for config in policy_settings[name])
    assert torch.equal(cached[:, :, 0], z[:, :, 0]) and not torch.equal(cached, plain)
    assert (cached - plain).norm() < 0.5 * plain.norm()


@pytest.mark.parametrize(
    ("config", "num_residuals"),
    [
        (DiCacheConfig(threshold=0.3), 1 + 3 + 1),  # two of the stack, two of the first block, its last output
        (DiCacheConfig(threshold=0.3, subtract_input=True), 1 + 3 + 2),
        (BWCacheConfig(threshold=1e-9), 1 + 8),
        (BWCacheConfig(threshold=1e-9, layers=(1,)), 1 + 2),
    ],
)
def test_what_probing_policies_hold(golden_model, sample, config, num_residuals):
    with apply_cache(golden_model, config, STEPS) as session:
        sample(golden_model)
    assert session.peak_cache_bytes == num_residuals * 2 * 3 * 16 * 64 * 4
    assert isinstance(config, BWCacheConfig) or num_residuals == 1 + config.num_extra_residuals


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - {*SITE_POLICIES, "Foresight", "BWCache"}))
def test_all_that_a_policy_holds_is_counted(golden_model, name, policy_settings, sample):
    """In half precision, in which plans count: what a run holds beside the residual of the stack."""
    config = replace(policy_settings[name][1], corrector=0.0)
    with apply_cache(golden_model.bfloat16(), config, STEPS) as session:
        sample(golden_model)
    assert session.peak_cache_bytes == (1 + config.num_extra_residuals) * 2 * 3 * 16 * 64 * 2


def test_forecasts_without_a_profile_warn(golden_model):
    with pytest.warns(UserWarning, match="ForecastCache has no profile of this model"):
        apply_cache(golden_model, ForecastCacheConfig(speedup=2), STEPS).detach()
    apply_cache(golden_model, ForecastCacheConfig(speedup=2, sensitivity=(2.0, 0.5)), STEPS).detach()
    apply_cache(golden_model, ForecastCacheConfig(speedup=1), STEPS).detach()  # every step computes


@pytest.mark.parametrize(
    ("config", "num_residuals"),
    [
        (PlannedForecastConfig(steps=(1, 2, 5, 6, 7), decision="sample"), 2),
        (AdaCacheConfig({10.0: 3, 11.0: 1}, decision="sample"), 2),
        (PlannedConfig(steps=(1, 2, 5, 6, 7)), 1),
    ],
)
def test_only_computed_steps_after_skipped_ones_are_corrected(golden_model, config, num_residuals):
    """On given latents, the outputs are those without a corrector, processed by `Corrector`."""
    x = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, 1, 12, 32, generator=torch.Generator().manual_seed(1))
    size = {"fps": torch.full((2,), 8.0), "height": torch.full((2,), 64.0), "width": torch.full((2,), 64.0)}
    times = [torch.full((2,), 1000.0 - 100 * i) for i in range(7)]

    @torch.no_grad()
    def outputs(cache):
        with apply_cache(golden_model, cache, len(times)) as session:
            return [golden_model(x * (1 - i / 10), t, y, **size) for i, t in enumerate(times)], session

    plain, _ = outputs(config)
    corrected, session = outputs(replace(config, corrector=0.5))
    steps, by_hand = computed_steps(session.trace), Corrector(ResidualStore(), 0.5)
    assert steps == [1, 2, 5, 6, 7]
    for number, (out, timestep, found) in enumerate(zip(plain, times, corrected, strict=True), start=1):
        velocity, variance = out.chunk(2, dim=1)
        velocity = by_hand.correct(velocity, timestep, number in steps, None, number == len(times))
        assert torch.equal(found, torch.cat([velocity, variance], dim=1))
        assert torch.equal(found, out) == (number != 5)
    # the residual and its difference, or the probe; plus velocity and drift
    assert session.peak_cache_bytes == 4 * (num_residuals * 2 * 3 * 16 * 64 + 2 * x.numel())
