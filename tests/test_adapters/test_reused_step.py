"""Operators of a reused step of STDiT3: embedding, one addition, the final layer, and the sampler's update."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.benchmark.random_video import SIZES, TINY, RandomVideo, random_model
from opensora_adacache.schedulers import RFLOW

ROOT = Path(__file__).parents[2]
INDUCTOR = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of modules that inductor imports
# Operators that only create views, and the reading of a timestep that is on the CPU anyway.
FREE = ("view", "squeeze", "expand", "permute", "transpose", "slice", "select", "unbind", "alias", "detach", "split")
FREE += ("local_scalar_dense",)
MEASUREMENT = ["sum", "cat"]
"""Operators at the end of a computed step, after its call of the model: what AdaCache measured is read at once."""
REUSED_STEP = {
    "the sampler's update of the step before": ["lerp", "add"],
    "the timestep and both guidance branches": ["full", "cat"],
    "patches": ["convolution", "add"],
    "embedding of the timestep": ["arange", "mul", "exp", "mul", "cos", "sin", "cat", "addmm", "silu", "addmm", "add"],
    "modulation of the blocks": ["silu", "addmm"],
    "the stored residual": ["add"],
    "final layer": ["add", "native_layer_norm", "add", "addcmul", "addmm", "clone"],
}


class Operators(TorchDispatchMode):
    """Collects the names of the operators that run, except for views."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator._schema.name.partition("::")[2]
        if name != "t" and not any(free in name for free in FREE):
            self.names.append(name)
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("depth", [2, 4])
def test_operators_of_a_reused_step(depth):
    torch.manual_seed(0)
    model = random_model(replace(TINY, depth=depth), torch.device("cpu"), torch.float32)
    video, steps = RandomVideo(model, SIZES["tiny"]), []
    with apply_cache(model, AdaCacheConfig({1e9: 3}), 9) as session, Operators() as operators:

        def note(step):
            steps.append((step.computed[0], operators.names.copy()))
            operators.names.clear()

        session.on_step = note
        RFLOW(9).sample(model, video, z=video.z, prompts=["a"], device="cpu", additional_args=video.conditions)
    assert [computed for computed, _ in steps] == [True, True, False, False, True, False, False, True, True]
    reused = [names for computed, names in steps if not computed]
    assert reused == [sum(REUSED_STEP.values(), [])] * 4
    assert all(len(names) > 40 * depth for computed, names in steps if computed)


@pytest.fixture
def list_kernels():
    """The function of a script that lists the kernels of each step, as the profiler sees them."""
    return runpy.run_path(str(ROOT / "scripts/experiments/count_kernels.py"))["list_kernels"]


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("backend", [None, pytest.param("eager", marks=pytest.mark.slow)])
def test_kernels_of_a_reused_step(list_kernels, backend):
    """The profiler sees the same kernels, and none of a compiled block."""
    model = random_model(replace(TINY, depth=2), torch.device("cpu"), torch.float32)
    if backend:
        model.compile_blocks(backend)
    steps = list_kernels(model)
    assert [computed for computed, _ in steps] == [True, False, False, True, False, False, True, True]
    first, second = [*MEASUREMENT, *sum(REUSED_STEP.values(), [])], sum(REUSED_STEP.values(), [])
    assert [names for computed, names in steps if not computed] == [first, second] * 2
    assert all(len(names) > 80 for computed, names in steps if computed)


@INDUCTOR
@pytest.mark.slow
@pytest.mark.usefixtures("fresh_dynamo")
def test_kernels_of_compiled_blocks(list_kernels):
    """Inductor keeps the twelve products and four attentions of a pair of blocks, and fuses the rest."""
    model = random_model(replace(TINY, depth=2), torch.device("cpu"), torch.float32)
    model.compile_blocks()
    import torch._inductor.config as inductor_config

    with inductor_config.patch({"cpp.enable_kernel_profile": True}):
        steps = list_kernels(model)
    assert {len(names) for computed, names in steps if not computed} == {26, 28}
    computed = [names for computed, names in steps if computed]
    assert all(len(names) <= 95 for names in computed)
    assert all(20 < sum("cpp_fused" in name for name in names) <= 29 for names in computed)
