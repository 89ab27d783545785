"""STDiT3 on a CUDA device: the reference's vectors, dtypes, compiled blocks, synchronisations, memory.

These run on a bare machine too (`make test-gpu`), so they use no fixture from outside this file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opensora_adacache import AdaCacheConfig, ForecastCacheConfig
from opensora_adacache.benchmark.device_clock import counted_synchronisations
from opensora_adacache.benchmark.random_video import RandomVideo, VideoSize, random_model
from opensora_adacache.benchmark.reference_vectors import exact_float32, forward_errors, recorded_runs
from opensora_adacache.costs.flops import count_cache_bytes, count_tokens
from opensora_adacache.generation.decode_ahead import DecodeAhead
from opensora_adacache.models import frame_attention
from opensora_adacache.models.layers import MAX_ATTENTION_HEADS, FeedForward, RotaryEmbedding, SelfAttention
from opensora_adacache.models.quantization import LEAST_CAPABILITY, quantize_linears
from opensora_adacache.models.structure import STDiT3Config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("default"),  # of torch and its compiler on whatever device this is
]

DATA = Path(__file__).parents[1] / "data"
SIZE = VideoSize(128, 192, 17, (5, 16, 24))
EVERY_THIRD = AdaCacheConfig(codebook={1e9: 3})


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad(), exact_float32():
        yield


@pytest.fixture
def cuda():
    return torch.device("cuda")


@pytest.fixture
def model(cuda):
    torch.manual_seed(0)
    config = STDiT3Config(depth=4, hidden_size=288, num_heads=4, caption_channels=64)
    return random_model(config, cuda, torch.bfloat16)


def test_vectors_of_the_reference(cuda):
    errors = forward_errors(DATA, cuda)
    assert errors["float32"] < 1e-5
    assert errors["bfloat16"] < 0.015


def test_recorded_runs_of_the_reference(cuda):
    runs = recorded_runs(DATA, cuda)
    assert len(runs) == 8
    assert all(same for same, _ in runs.values()), runs
    assert max(error for _, error in runs.values()) < 1e-4


def test_attention_over_frames_of_many_places(cuda):
    """CUDA's attention kernels take 65535 heads at most."""
    torch.manual_seed(0)
    attention, rope = SelfAttention(16, 2, True, "auto"), RotaryEmbedding(8)
    x = torch.randn(1, 2, MAX_ATTENTION_HEADS + 5, 16)
    expected = attention(x, rope(2))
    out = attention.to(cuda)(x.to(cuda), rope.to(cuda)(2)).cpu()
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num_frames", [5, 15, 30])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_kernel_over_frames(cuda, num_frames, qk_norm):
    """The kernel rounds less than torch's operators do: both are within bfloat16 of the float32 result."""
    torch.manual_seed(0)
    with torch.device(cuda):
        attention, rope = SelfAttention(144, 2, qk_norm, "auto"), RotaryEmbedding(72)
        x = torch.randn(2, num_frames, 37, 144)
    expected = attention(x, rope(num_frames))
    half, rotary = attention.to(torch.bfloat16), tuple(table.bfloat16() for table in rope(num_frames))
    assert frame_attention.is_supported(half.qkv(x.bfloat16()).unflatten(-1, (3, 2, -1)))
    error = (half(x.bfloat16(), rotary) - expected).norm() / expected.norm()
    half.backend = "sdpa"
    of_torch = (half(x.bfloat16(), rotary) - expected).norm() / expected.norm()
    assert error < 1.2 * of_torch < 0.05


def test_linear_layer_with_gelu(cuda):
    torch.manual_seed(0)
    with torch.device(cuda):
        mlp = FeedForward(64, 256, 64)
        x = torch.randn(3, 50, 64)
    expected = mlp(x)
    out = mlp.to(torch.bfloat16)(x.bfloat16())
    assert (out - expected).norm() / expected.norm() < 0.01


@pytest.mark.parametrize("mode", ["float8", "int8", "int8-weights"])
def test_quantized_blocks_eager_and_compiled(model, cuda, mode):
    pytest.importorskip("torchao")
    if mode == "float8" and torch.cuda.get_device_capability(cuda) < LEAST_CAPABILITY:
        pytest.skip("the device has no float8")
    step = RandomVideo(model, SIZE).step()
    expected = step()
    for block in model.blocks():
        quantize_linears(block, mode, cuda)
    error = (step() - expected).norm() / expected.norm()
    model.compile_blocks()
    compiled_error = (step() - expected).norm() / expected.norm()
    assert 0 < error < 0.1 and 0 < compiled_error < 0.1


@pytest.mark.parametrize("granularity", ["stack", "block"])
def test_compiled_blocks_keep_schedules_and_stop_compiling(model, granularity):
    from torch._dynamo.utils import counters

    config = AdaCacheConfig(codebook={1e9: 3}, granularity=granularity)
    video = RandomVideo(model, SIZE)
    expected, schedule, _ = video.sample(8, config)
    model.compile_blocks()
    video.sample(2, config)
    graphs = counters["stats"]["unique_graphs"]
    latents, compiled_schedule, _ = video.sample(8, config)
    RandomVideo(model, SIZE, num_tokens=31).sample(8, config)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]
    assert compiled_schedule == schedule
    assert float((latents - expected).norm() / expected.norm()) < 0.05


def test_one_synchronisation_per_computed_step_and_none_on_reused_ones(model):
    video = RandomVideo(model, SIZE)
    video.sample(9, EVERY_THIRD)
    with counted_synchronisations() as before:
        video.sample(9)
    with counted_synchronisations() as waits:
        _, computed, _ = video.sample(9, EVERY_THIRD)
    assert 0 < sum(computed) < 9
    assert len(waits) - len(before) == sum(computed), waits


def test_a_cache_holds_what_the_plan_says(model):
    video = RandomVideo(model, SIZE)
    _, _, peak_bytes = video.sample(6, EVERY_THIRD)
    tokens = count_tokens(SIZE.latents, model.config.patch_size)
    planned = count_cache_bytes(2, tokens, model.config.hidden_size, bytes_per_value=2)
    assert peak_bytes == pytest.approx(planned, rel=0.1)


def test_residuals_on_the_cpu_free_the_device(model):
    """The same latents; the device holds one residual at a time, for a reused step, and waits no more often."""
    video = RandomVideo(model, SIZE)
    planned = ForecastCacheConfig(computed_steps=5, order=2, sensitivity=(2.0, 1.0))

    def measured(config):
        video.sample(9, config)
        torch.cuda.reset_peak_memory_stats()
        with counted_synchronisations() as waits:
            latents, computed, peak_bytes = video.sample(9, config)
        return latents, computed, torch.cuda.max_memory_allocated(), len(waits), peak_bytes

    expected, schedule, near, waits, held = measured(planned)
    latents, computed, far, waits_far, held_far = measured(replace(planned, residual_device="cpu"))
    assert torch.equal(latents, expected) and computed == schedule
    assert waits_far == waits and held_far == held
    # three residuals of which one or two are back on the device at a time
    assert near - far > held / 4


def test_decoding_ahead_reads_complete_latents_on_a_stream_of_its_own(cuda):
    product, streams, sums = torch.eye(4096, device=cuda), [], []
    with DecodeAhead(cuda) as decoder:
        for number in range(1, 4):
            latents = product * number
            for _ in range(20):  # the device is still at work when the latents are handed over
                latents = latents @ product

            def finish(latents=latents):
                streams.append(torch.cuda.current_stream(cuda))
                sums.append(latents.sum().item() / 4096)

            decoder.submit(finish)
    assert sums == [1.0, 2.0, 3.0]
    assert torch.cuda.default_stream(cuda) not in streams
