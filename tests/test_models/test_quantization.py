"""Quantised models: what is rounded, how far results stray, that caches work on them, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from opensora_adacache import AdaCacheConfig
from opensora_adacache.benchmark.random_video import TINY, RandomVideo, VideoSize, random_model
from opensora_adacache.errors.family import AdaCacheError
from opensora_adacache.models.quantization import check_quantization, quantize_linears, weight_bytes

pytest.importorskip("torchao")
CPU = torch.device("cpu")
SIZE = VideoSize(64, 96, 17, (3, 8, 12))
STEPS = 8
INT8 = ("int8", "int8-weights")


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return random_model(TINY, CPU, torch.float32)


def quantized(model, mode):
    model = copy.deepcopy(model)
    for block in model.blocks():
        quantize_linears(block, mode, CPU)
    return model


def relative(x, reference):
    return ((x - reference).norm() / reference.norm()).item()


def video_of(model):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return RandomVideo(model, SIZE)


@torch.no_grad()
def test_weights_are_rounded_to_255_steps_of_each_output_channel():
    layer = nn.Linear(16, 8, bias=False)
    weight = layer.weight.detach().clone()
    quantize_linears(holder := nn.Sequential(layer), "int8-weights", CPU)
    step = 2 * weight.abs().amax(dim=1, keepdim=True) / 255
    numbers = holder(torch.eye(16)).T / step
    torch.testing.assert_close(numbers, numbers.round(), rtol=0, atol=1e-4)
    assert (numbers - weight / step).abs().max() < 0.501


@pytest.mark.parametrize("mode", INT8)
def test_only_linear_layers_of_blocks_are_quantized(model, mode):
    small = quantized(model, mode)
    changed = {name for name, parameter in small.named_parameters() if type(parameter) is not nn.Parameter}
    assert changed == {
        f"{name}.weight"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith(("spatial_blocks", "temporal_blocks"))
    }
    # a byte for each weight; four for each channel's scale and one for its zero
    saved = sum(3 * layer.numel() - 5 * len(layer) for name, layer in model.named_parameters() if name in changed)
    assert weight_bytes(model) - weight_bytes(small) == saved
    assert small.dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize(("mode", "limit"), [("int8", 0.03), ("int8-weights", 0.015)])
def test_videos_stray_little_and_rates_of_one_change_no_bit(model, mode, limit):
    video, small = video_of(model), video_of(quantized(model, mode))
    plain, *_ = small.sample(STEPS, None)
    cached, *_ = small.sample(STEPS, AdaCacheConfig({1e9: 1}))
    assert torch.equal(cached, plain)
    assert 0 < relative(plain, video.sample(STEPS, None)[0]) < limit
    reused, schedule, _ = small.sample(STEPS, AdaCacheConfig({1e9: 3}))
    assert schedule == video.sample(STEPS, AdaCacheConfig({1e9: 3}))[1]
    assert torch.isfinite(reused).all() and not torch.equal(reused, plain)


@torch.no_grad()
@pytest.mark.parametrize("mode", INT8)
def test_a_row_does_not_depend_on_the_batch(model, mode):
    block = quantized(model, mode).blocks()[0]
    x = torch.randn(3, 5, model.config.hidden_size)
    assert torch.equal(block.mlp(x)[1:2], block.mlp(x[1:2]))


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("mode", INT8)
def test_compiled_blocks_stay_one_graph(model, mode):
    torch._dynamo.reset()
    small = quantized(model, mode)
    expected, *_ = video_of(small).sample(STEPS, None)
    counter = CompileCounterWithBackend("eager")
    small.compile_blocks(counter)
    got, *_ = video_of(small).sample(STEPS, None)
    torch._dynamo.reset()
    assert counter.frame_count == 2  # spatial and temporal
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_what_float8_needs_is_said_in_one_line(monkeypatch):
    with pytest.raises(AdaCacheError, match="needs dtype='bf16', got torch.float32; set dtype or choose"):
        check_quantization("float8", torch.float32, CPU)
    with pytest.raises(AdaCacheError, match="compute capability 8.9 or higher, got 'cpu'; choose quantize='int8'"):
        check_quantization("float8", torch.bfloat16, CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    with pytest.raises(AdaCacheError, match="got capability 8.6"):
        check_quantization("float8", torch.bfloat16, torch.device("cuda", 0))


@pytest.mark.parametrize("mode", INT8)
def test_without_torchao_the_error_is_one_line(monkeypatch, mode):
    for name in ("torchao", "torchao.quantization"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(AdaCacheError, match=r"needs torchao .*pip install 'opensora-adacache\[quantize\]'") as error:
        check_quantization(mode, torch.float32, CPU)
    assert "\n" not in str(error.value)
