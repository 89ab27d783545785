"""What public reports and hard trials of caches show, in every family of pipelines.

Guidance calls without names, offload in either order, another number of steps for each call, hooks that others put on
and take off, and copies.
"""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch

from opensora_adacache import apply_cache
from opensora_adacache.caching.trace import computed_steps

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # raised inside Mochi


def unnamed_guidance_calls(family, pipeline, monkeypatch):
    """A pipeline of one's own that does not use `cache_context`."""
    transformer = pipeline.transformer
    monkeypatch.setattr(type(transformer), "cache_context", lambda self, name, **more: nullcontext())
    with apply_cache(pipeline, family.rate_2) as session:
        assert torch.equal(family.check(pipeline, session), family.cached)
        assert set(session.branches) <= {"", "call 2"}


def offload_in_either_order(family, pipeline, monkeypatch):
    pytest.importorskip("accelerate")
    pipeline.enable_model_cpu_offload(device="cpu")
    with apply_cache(pipeline, family.rate_2) as session:
        assert torch.equal(family.check(pipeline, session), family.cached)
    pipeline.remove_all_hooks()
    with apply_cache(pipeline, family.rate_2) as session:
        pipeline.enable_model_cpu_offload(device="cpu")
        assert torch.equal(family.check(pipeline, session), family.cached)


def another_number_of_steps_for_each_call(family, pipeline, monkeypatch):
    with apply_cache(pipeline, family.rate_2) as session:
        for steps in (6, 4, family.steps):
            latents = family.generate(pipeline, num_inference_steps=steps)
            lengths = [len(branch.trace) for branch in session.branches.values()]
            assert lengths == [steps] * len(lengths)
        assert torch.equal(latents, family.cached)


def hooks_of_others(family, pipeline, monkeypatch):
    """A hook that replaces `forward` is put on before the cache and goes while it is on; another comes."""
    from diffusers.hooks import HookRegistry, ModelHook

    class Count(ModelHook):
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            self.calls += 1
            return args, kwargs

    registries = [
        HookRegistry.check_if_exists_or_initialize(transformer)
        for transformer in family.transformers(pipeline).values()
    ]
    before, after = [Count() for _ in registries], [Count() for _ in registries]

    def calls_of(counts):
        return sum(count.calls for count in counts)

    for registry, count in zip(registries, before, strict=True):
        registry.register_hook(count, "before")
    with apply_cache(pipeline, family.rate_2) as session:
        for registry, count in zip(registries, after, strict=True):
            registry.register_hook(count, "after")
        assert torch.equal(family.check(pipeline, session), family.cached)
        calls = 2 * family.steps * len(session.branches)
        assert calls_of(before) == calls_of(after) == calls
        for registry in registries:
            registry.remove_hook("before")
        assert torch.equal(family.check(pipeline, session), family.cached)
        assert (calls_of(before), calls_of(after)) == (calls, 2 * calls)
    assert torch.equal(family.generate(pipeline), family.plain)
    assert all(list(registry.hooks) == ["after"] for registry in registries)


def copies(family, pipeline, monkeypatch):
    """A copy of a pipeline with a cache is a plain one; so is what pickle makes of its transformer."""
    session = apply_cache(pipeline, family.rate_2)
    cached = family.check(pipeline, session)
    trace = session.trace
    twin = copy.deepcopy(pipeline)
    twin.set_progress_bar_config(disable=True)
    assert torch.equal(family.generate(twin), family.plain) and session.trace == trace
    with apply_cache(twin, family.rate_2) as other:
        assert torch.equal(family.check(twin, other), cached)
    for name, transformer in family.transformers(pipeline).items():
        setattr(twin, name, pickle.loads(pickle.dumps(transformer)))
    assert torch.equal(family.generate(twin), family.plain)
    assert torch.equal(family.check(pipeline, session), cached)
    session.detach()
    assert torch.equal(family.generate(pipeline), family.plain)


def an_exception_in_the_middle(family, pipeline, monkeypatch):
    with apply_cache(pipeline, family.rate_2) as session:
        calls = []

        def fail(module, inputs):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("out of memory")

        handle = family.blocks(pipeline)[-1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            family.generate(pipeline)
        handle.remove()
        assert torch.equal(family.check(pipeline, session), family.cached)
        assert computed_steps(session.trace) == family.computed


@pytest.mark.parametrize(
    "trial",
    [
        unnamed_guidance_calls,
        offload_in_either_order,
        another_number_of_steps_for_each_call,
        hooks_of_others,
        copies,
        an_exception_in_the_middle,
    ],
    ids=lambda trial: trial.__name__,
)
def test_every_family(two_families, trial, monkeypatch):
    trial(two_families, two_families.make(), monkeypatch)
