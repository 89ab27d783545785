"""Weights that are moved while a model runs, by accelerate's hooks and by diffusers' groups, before and after."""

from __future__ import annotations

import pytest
import torch
from diffusers.hooks import HookRegistry, apply_group_offloading

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.trace import computed_steps

STEPS = 7
RATE_3 = AdaCacheConfig({1e9: 3, 1e10: 1})
NAMES = ("wan-2.1", "cogvideox", "latte")


@pytest.fixture(params=NAMES)
def case(request, tiny_models):
    """A model, what two calls of it give with a cache and without, and a list of the calls of its first block."""
    tiny = tiny_models[request.param]
    model = tiny.make()
    plain = tiny.sample(model)
    with apply_cache(model, RATE_3, STEPS):
        cached = tiny.sample(model)
    calls = []
    tiny.blocks(model)[0].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    return tiny, model, plain, cached, calls


def check(case, session, between=lambda: None):
    """Two calls with the cache, whatever is done between them."""
    tiny, model, _, cached, calls = case
    for _ in range(2):
        calls.clear()
        assert torch.equal(tiny.sample(model), cached)
        steps = [computed_steps(branch.trace) for branch in session.branches.values()]
        assert steps[0] == [1, 2, 5, 6, 7] and len(calls) == sum(map(len, steps))
        between()


def cpu_offload(model):
    from accelerate import cpu_offload_with_hook

    return cpu_offload_with_hook(model, execution_device="cpu")[1]


def align(model):
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    add_hook_to_module(model, AlignDevicesHook(execution_device="cpu", io_same_device=True))


def sequential(model):
    from accelerate import cpu_offload

    cpu_offload(model, torch.device("cpu"), offload_buffers=False)


@pytest.mark.parametrize("put_on", [cpu_offload, align, sequential])
@pytest.mark.parametrize("before", [True, False])
def test_hooks_of_accelerate(case, put_on, before):
    hooks = pytest.importorskip("accelerate.hooks")
    tiny, model, plain, *_ = case
    if before:
        put_on(model)
    session = apply_cache(model, RATE_3, STEPS)
    if not before:
        put_on(model)

    def again():
        hooks.remove_hook_from_module(model, recurse=True)  # as a pipeline does at the end of each call
        put_on(model)

    check(case, session, again)
    session.detach()
    assert hasattr(model, "_hf_hook") or any(hasattr(module, "_hf_hook") for module in model.modules())
    assert torch.equal(tiny.sample(model), plain)
    hooks.remove_hook_from_module(model, recurse=True)
    assert torch.equal(tiny.sample(model), plain) and model.forward.__func__ is type(model).forward


@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
@pytest.mark.parametrize("before", [True, False])
def test_groups_of_diffusers(case, kind, before):
    tiny, model, plain, *_ = case

    def put_on():
        more = {"num_blocks_per_group": 1} if kind == "block_level" else {}
        apply_group_offloading(model, torch.device("cpu"), torch.device("cpu"), offload_type=kind, **more)

    if before:
        put_on()
    session = apply_cache(model, RATE_3, STEPS)
    if not before:
        put_on()
    check(case, session)
    session.detach()
    assert torch.equal(tiny.sample(model), plain)
    assert any(isinstance(getattr(module, "_diffusers_hook", None), HookRegistry) for module in model.modules())
