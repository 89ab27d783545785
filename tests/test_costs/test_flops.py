"""Counting operations and cached bytes on the meta device."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from opensora_adacache import apply_cache
from opensora_adacache.caching.guidance.settings import GuidanceReuse
from opensora_adacache.caching.policies.fastercache import FasterCacheConfig
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.caching.policies.tgate import TGATEConfig
from opensora_adacache.config.load import load_config
from opensora_adacache.costs import run
from opensora_adacache.costs.flops import (
    StepFlops,
    count_cache_bytes,
    count_decoding,
    count_residuals,
    count_step,
    count_tokens,
)
from opensora_adacache.generation.loading import load_vae
from opensora_adacache.models import OpenSoraVAE, STDiT3, STDiT3Config
from opensora_adacache.models.temporal_vae import TemporalVAEConfig
from opensora_adacache.models.vae import OpenSoraVAEConfig

SMALL = STDiT3Config(depth=2, hidden_size=48, num_heads=4, caption_channels=20, model_max_length=7)

TINY_VAE = OpenSoraVAEConfig(
    TemporalVAEConfig(filters=8, num_res_blocks=1, channel_multipliers=(1, 1, 1, 1), num_groups=4),
    block_out_channels=(8, 8, 8, 8),
    layers_per_block=1,
    norm_num_groups=4,
)


def build(config):
    with torch.device("meta"):
        return STDiT3(config)


def expected_macs_in_blocks(config, rows, num_frames, num_patches, num_text):
    """Multiply-adds of all blocks, from the formulas of the model. The text is projected beforehand."""
    channels, tokens = config.hidden_size, rows * num_frames * num_patches
    linear = tokens * 14 * channels**2
    cross = 2 * tokens * num_text * channels
    attention = 2 * tokens * channels * (num_patches + num_frames)
    return config.depth * (2 * linear + 2 * cross + attention)


@pytest.mark.parametrize("backend", ["auto", "no-flash"])
def test_every_product_is_counted_once(backend):
    with torch.device("meta"):
        model = STDiT3(SMALL, attention_backend=backend)
    step = count_step(model, (3, 8, 7), num_text_tokens=5)
    in_blocks = 2 * expected_macs_in_blocks(SMALL, rows=2, num_frames=3, num_patches=16, num_text=5)
    assert step.computed - step.reused == in_blocks
    assert 0 < step.reused < step.computed


def test_depth_changes_the_blocks_only():
    one, two = (count_step(build(replace(SMALL, depth=depth)), (2, 4, 4), 3) for depth in (1, 2))
    assert one.reused == two.reused
    assert two.computed - two.reused == 2 * (one.computed - one.reused)


def test_the_published_baseline_is_met_within_5_percent():
    """480p (480x854), 2 s (51 frames), 30 steps with guidance: 3230.24 TFLOPs in Table 1 of the paper."""
    model = build(STDiT3Config())
    padded, short = (count_step(model, (15, 60, 106), length).computed * 30 / 1e12 for length in (300, 20))
    assert padded == pytest.approx(3230.24, rel=0.05)
    assert short == pytest.approx(3230.24, rel=0.02)


def test_attention_products_can_be_left_out():
    step = count_step(build(SMALL), (3, 8, 7), 5, attention_products=False)
    channels, tokens = SMALL.hidden_size, 2 * 3 * 16
    linear = tokens * 14 * channels**2
    assert step.computed - step.reused == 2 * SMALL.depth * 2 * linear


def test_sites_add_up_to_the_blocks():
    step = count_step(build(SMALL), (3, 8, 7), 5)
    assert step.computed == step.reused + SMALL.depth * sum(step.sites.values())
    tokens, channels = 2 * 3 * 16, SMALL.hidden_size
    assert step.sites["s", "mlp"] == step.sites["t", "mlp"] == 2 * tokens * 8 * channels**2
    assert step.sites["t", "attn"] == 2 * tokens * (4 * channels**2 + 2 * 3 * channels)
    assert step.sites["s", "attn"] == 2 * tokens * (4 * channels**2 + 2 * 16 * channels)
    assert step.sites["s", "cross"] == 2 * tokens * (2 * channels**2 + 2 * 5 * channels)


def test_a_schedule_of_sites_costs_what_the_executed_operators_cost():
    """Two steps of T-GATE, the second without self-attention, counted while they run (on the CPU without the
    products inside attention, which its kernels hide)."""
    config, model = TGATEConfig(gate_step=2, interval=2), STDiT3(SMALL)
    step = count_step(build(SMALL), (3, 8, 7), 5, attention_products=False)
    size = {key: torch.full((1,), 64.0) for key in ("fps", "height", "width")}
    with torch.no_grad():
        conditioning = model.prepare(torch.randn(2, 1, 5, 20), **size, latent_size=(3, 8, 7))
    with torch.no_grad(), apply_cache(model, config, 2), FlopCounterMode(display=False) as counter:
        for _ in range(2):
            model(torch.randn(2, 4, 3, 8, 7), torch.full((2,), 500.0), conditioning=conditioning)
    operators = counter.get_flop_counts()["Global"].items()
    executed = sum(flops for operator, flops in operators if "attention" not in str(operator))
    assert step.run_sites(config, [1000.0, 500.0]) == executed
    attention = SMALL.depth * (step.sites["s", "attn"] + step.sites["t", "attn"])
    assert executed == 2 * step.computed - attention


@pytest.mark.parametrize(
    "config",
    [
        StaticConfig(interval=2, guidance_reuse=GuidanceReuse(interval=3, start=0.3)),
        FasterCacheConfig(first_steps=2, guidance_reuse=GuidanceReuse(interval=3, start=0.3)),
    ],
)
def test_rows_that_are_left_out_cost_nothing(config):
    """Eight steps, counted while they run as above; also from the trace, as for a policy that decides by itself."""
    model, steps = STDiT3(SMALL), 8
    step = count_step(build(SMALL), (3, 8, 7), 5, attention_products=False)
    size = {key: torch.full((1,), 64.0) for key in ("fps", "height", "width")}
    x = torch.randn(1, 4, 3, 8, 7).expand(2, -1, -1, -1, -1)
    with torch.no_grad():
        conditioning = model.prepare(torch.randn(2, 1, 5, 20), **size, latent_size=(3, 8, 7))
    with torch.no_grad(), apply_cache(model, config, steps) as session, FlopCounterMode(display=False) as counter:
        for i in range(steps):
            model(x, torch.full((2,), 1000.0 - 100 * i), conditioning=conditioning)
    operators = counter.get_flop_counts()["Global"].items()
    executed = sum(flops for operator, flops in operators if "attention" not in str(operator))
    if isinstance(config, FasterCacheConfig):
        assert step.run_sites(config, [1000.0 - 100 * i for i in range(steps)]) == executed
        return
    every, kept = session.trace, [record for record in session.trace if not record.rebuilt]
    assert [record.step for record in kept] == [1, 2, 3, 7]
    assert step.run_rows([[record.fraction for record in rows] for rows in (every, kept)]) == executed


def test_first_blocks_run_on_reused_steps_too():
    step = count_step(build(SMALL), (3, 8, 7), 5)
    spatial = sum(flops for (axis, _), flops in step.sites.items() if axis == "s")
    assert step.run(1, 3, num_first_blocks=1) == step.computed + 2 * (step.reused + spatial)
    assert step.run(1, 3, num_first_blocks=2 * SMALL.depth) == 3 * step.computed


def test_decoding_is_counted():
    with torch.device("meta"):
        vae = OpenSoraVAE(TINY_VAE)
    with_attention, without = (count_decoding(vae, (2, 4, 4), 5, products) for products in (True, False))
    assert 0 < without < with_attention


def test_a_run_adds_up():
    assert StepFlops(10, 1).run(30, 30) == 300
    assert StepFlops(10, 1).run(12, 30) == 138


def test_a_model_with_weights_is_refused():
    with pytest.raises(ValueError, match="meta device"):
        count_step(STDiT3(SMALL), (1, 4, 4), 3)


@pytest.mark.parametrize("size, block, stack", [((15, 60, 106), 12.3, 0.22), ((15, 90, 160), 27.9, 0.50)])
def test_cached_bytes_are_those_of_the_reference(size, block, stack):
    def gigabytes(granularity):
        return count_cache_bytes(count_residuals(granularity, 28), count_tokens(size, (1, 2, 2)), 1152, 2) / 1e9

    assert gigabytes("block") == pytest.approx(block, abs=0.05)
    assert gigabytes("stack") == pytest.approx(stack, abs=0.005)


def test_partial_patches_count_as_tokens():
    assert count_tokens((3, 7, 8), (1, 2, 2)) == 3 * 4 * 4


def test_probe_sites_are_kept_beside_the_stack():
    assert count_residuals("stack", 6, num_probe_sites=3) == 4
    with pytest.raises(ValueError, match="granularity"):
        count_residuals("layer", 6)


def test_runs_are_counted_with_the_vae_of_their_config():
    config = load_config("scenes/sample", {"prompt": ["a"]})
    vae = load_vae(config.vae, torch.float32, torch.device("cpu"))
    assert run.latent_size(config) == vae.latent_size((config.num_frames, *config.image_size)) == (5, 24, 24)
    assert run.step_size(config).num_tokens == 5 * 6 * 6
    assert run.decoding_flops(config) == count_decoding(vae.to("meta"), (5, 24, 24), config.num_frames)
    published = load_config("sample", {"prompt": ["a"]})
    assert run.latent_size(published)[1:] == tuple(side // 8 for side in published.image_size)
