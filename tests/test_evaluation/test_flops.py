"""Counting operations and cached bytes on the meta device."""

from dataclasses import replace

import pytest
import torch

from opensora_adacache.evaluation.flops import (
    StepFlops,
    count_cache_bytes,
    count_residuals,
    count_step,
    count_tokens,
)
from opensora_adacache.models import STDiT3, STDiT3Config

SMALL = STDiT3Config(depth=2, hidden_size=48, num_heads=4, caption_channels=20, model_max_length=7)


def build(config):
    with torch.device("meta"):
        return STDiT3(config)


def expected_macs_in_blocks(config, rows, num_frames, num_patches, num_text):
    """Multiply-accumulates of all blocks, written down from the formulas of the model."""
    channels, tokens = config.hidden_size, rows * num_frames * num_patches
    linear = tokens * 14 * channels**2 + rows * num_text * 2 * channels**2
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
