"""A cache stays attached from outside whatever else changes: hooks, copies, threads, replaced blocks."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import threading
import warnings

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.trace import computed_steps

STEPS = 7
RATE_3 = AdaCacheConfig({1e9: 3, 1e10: 1})
NAMES = ("wan-2.1", "cogvideox", "latte")


def count_blocks(tiny, model):
    """Count the calls of the first block's forward, however it is called."""
    calls = []
    tiny.blocks(model)[0].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    return calls


class Watcher:
    """A hook like those of accelerate: replaces the forward of an object and restores the one that it found."""

    def __init__(self, model):
        self.model, self.old, self.calls = model, model.forward, 0
        self.was_own = "forward" in vars(model)

        def forward(*args, **kwargs):
            self.calls += 1
            return self.old(*args, **kwargs)

        model.forward = forward

    def remove(self):
        self.model.forward = self.old
        if not self.was_own:
            del self.model.forward


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [True, False])
def test_hooks_that_come_and_go_leave_the_cache_on(tiny_models, name, before):
    """As with model offloading, hooks are removed and added again between two calls of a pipeline."""
    tiny = tiny_models[name]
    model = tiny.make()
    with apply_cache(model, RATE_3, STEPS):
        expected = tiny.sample(model)
    calls = count_blocks(tiny, model)
    hook = Watcher(model) if before else None
    session = apply_cache(model, RATE_3, STEPS)
    hook = hook or Watcher(model)
    for _ in range(3):
        calls.clear()
        assert torch.equal(tiny.sample(model), expected) and hook.calls
        per_branch = [computed_steps(branch.trace) for branch in session.branches.values()]
        assert len(calls) == sum(map(len, per_branch)) and per_branch[0] == [1, 2, 5, 6, 7]
        hook.remove()
        hook = Watcher(model)
    session.detach()
    before_last = hook.calls
    tiny.sample(model)
    assert hook.calls > before_last, "detaching took somebody else's hook off"


def test_hooks_of_diffusers_that_come_after_ours(tiny_models):
    from diffusers.hooks import HookRegistry, ModelHook

    class Mark(ModelHook):
        def post_forward(self, module, output):
            marks.append(1)
            return output

    marks, tiny = [], tiny_models["wan-2.1"]
    model = tiny.make()
    before = HookRegistry.check_if_exists_or_initialize(model)
    before.register_hook(Mark(), "before")
    session = apply_cache(model, RATE_3, STEPS)
    before.register_hook(Mark(), "after")
    tiny.sample(model, steps=STEPS)
    assert len(marks) == 2 * 2 * STEPS  # two hooks, two branches
    before.remove_hook("before")
    session.detach()
    marks.clear()
    tiny.sample(model, steps=STEPS)
    assert len(marks) == 2 * STEPS and list(before.hooks) == ["after"]
    before.remove_hook("after")
    assert type(model).forward is model.forward.__func__


def test_a_class_whose_forward_was_replaced(tiny_models, monkeypatch):
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    with apply_cache(model, RATE_3, STEPS):
        expected = tiny.sample(model)
    original = type(model).forward

    def forward(self, *args, **kwargs):
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", forward)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="was replaced by one that does not name its hidden_states: wrap it with"):
        apply_cache(model, RATE_3, STEPS)
    assert vars(model) == before
    monkeypatch.setattr(type(model), "forward", functools.wraps(original)(forward))
    with apply_cache(model, RATE_3, STEPS):
        assert torch.equal(tiny.sample(model), expected)


def test_gradient_checkpointing_is_refused_where_gradients_flow(tiny_models):
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    with apply_cache(model, RATE_3, STEPS) as session:
        expected = tiny.sample(model)
        model.enable_gradient_checkpointing()
        assert torch.equal(tiny.sample(model), expected)  # without gradients it does nothing
        with torch.enable_grad(), pytest.raises(ValueError, match=r"sample in torch.no_grad\(\), or call disable_grad"):
            model(hidden_states=tiny.latents(0), timestep=torch.tensor([900.0]), **tiny.text(0))
        assert not session.branches["cond"].is_unfinished


def test_a_call_that_goes_past_the_session_is_noticed(tiny_models):
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    with apply_cache(model, RATE_3, STEPS), torch.no_grad():
        with pytest.warns(UserWarning, match=r"so it was not cached: call model\("):
            model.forward(hidden_states=tiny.latents(0), timestep=torch.tensor([500.0]), **tiny.text(0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once is enough
            model.forward(hidden_states=tiny.latents(0), timestep=torch.tensor([400.0]), **tiny.text(0))


@pytest.mark.parametrize("name", ["wan-2.1", "cogvideox"])
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_is_a_plain_model_of_its_own(tiny_models, name, how):
    tiny = tiny_models[name]
    model = tiny.make()
    plain = tiny.sample(model)
    session = apply_cache(model, RATE_3, STEPS)
    cached = tiny.sample(model)
    twin = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    trace = session.trace
    assert torch.equal(tiny.sample(twin), plain) and session.trace == trace
    assert not twin.is_cache_enabled
    with apply_cache(twin, RATE_3, STEPS):
        assert torch.equal(tiny.sample(twin), cached)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not torch.equal(tiny.sample(twin), plain) and torch.equal(tiny.sample(model), cached)
    session.detach()
    assert torch.equal(tiny.sample(model), plain)


@pytest.mark.parametrize("how", ["deepcopy", "torch.save"])
def test_a_copy_of_our_stdit3_is_a_plain_model_of_its_own(golden_model, how):
    arguments = {key: torch.ones(1) for key in ("fps", "height", "width")}
    arguments |= {"y": torch.zeros(1, 1, 12, 32), "timestep": torch.full((1,), 900.0)}
    x = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = golden_model(x, **arguments)
        for granularity in ("stack", "block"):
            with apply_cache(golden_model, AdaCacheConfig({1e9: 3}, granularity=granularity), 9) as session:
                if how == "deepcopy":
                    twin = copy.deepcopy(golden_model)
                else:
                    file = io.BytesIO()
                    torch.save(golden_model, file)
                    file.seek(0)
                    twin = torch.load(file, weights_only=False)
                assert torch.equal(twin(x, **arguments), plain) and session.trace == []
                for parameter in twin.parameters():
                    parameter.zero_()
                assert torch.equal(golden_model(x, **arguments), plain)
                session.end_run()


def test_two_threads_are_refused_and_the_first_goes_on(tiny_models):
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    inside, other_is_done, found = threading.Event(), threading.Event(), []

    def wait(module, inputs):
        if not inside.is_set():
            inside.set()
            other_is_done.wait(60)

    tiny.blocks(model)[0].register_forward_pre_hook(wait)
    session = apply_cache(model, RATE_3, STEPS)
    thread = threading.Thread(target=lambda: found.append(tiny.sample(model)))
    thread.start()
    assert inside.wait(60)
    with pytest.raises(RuntimeError, match="in progress already: a model with a cache cannot run in two threads"):
        tiny.sample(model)
    with pytest.raises(RuntimeError, match="detach the cache before or after a call of the model"):
        session.detach()
    other_is_done.set()
    thread.join()
    assert found[0].isfinite().all() and computed_steps(session.trace) == [1, 2, 5, 6, 7]
    session.detach()


def test_a_block_that_is_replaced(tiny_models):
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    with apply_cache(model, RATE_3, STEPS):
        model.blocks[1] = copy.deepcopy(model.blocks[1])
        with pytest.raises(ValueError, match="a block of the model was replaced after apply_cache"):
            tiny.sample(model)


class TestWithoutNames:
    """Pipelines that name no branches: the calls show which of them belong to one step."""

    @staticmethod
    def sample(tiny, model, calls=2, clones=False, steps=STEPS, until=None):
        x, outs = tiny.latents(0), []
        texts = [tiny.text(seed) for seed in range(calls)]
        with torch.no_grad():
            for index, t in enumerate(torch.linspace(1000, 1000 / steps, steps)):
                timestep = t.expand(1)
                for text in texts[: calls if until is None or index < until else 1]:
                    arguments = [x.clone(), timestep.clone()] if clones else [x, timestep]
                    outs.append(model(arguments[0], timestep=arguments[1], **text, return_dict=False)[0])
                x = x - outs[-1] / steps
        return x

    @pytest.mark.parametrize("clones", [False, True])
    @pytest.mark.parametrize("calls", [1, 2, 3])
    def test_each_call_of_a_step_is_a_branch(self, tiny_models, calls, clones):
        tiny = tiny_models["wan-2.1"]
        model = tiny.make()
        with apply_cache(model, AdaCacheConfig({1.0: 1}), STEPS) as session:
            plain = self.sample(tiny, model, calls, clones)
            assert list(session.branches) == ["", "call 2", "call 3"][:calls]
            assert all(len(branch.trace) == STEPS for branch in session.branches.values())
        assert torch.equal(self.sample(tiny, model, calls), plain)
        with apply_cache(model, RATE_3, STEPS) as session:
            first = self.sample(tiny, model, calls, clones)
            assert torch.equal(self.sample(tiny, model, calls, clones), first)
            assert [computed_steps(b.trace) for b in session.branches.values()] == [[1, 2, 5, 6, 7]] * calls
        assert (first - plain).norm() / plain.norm() < 0.05

    @pytest.mark.parametrize("clones", [False, True])
    def test_inference_mode(self, tiny_models, clones):
        """Its tensors do not count how often they were written to."""
        tiny = tiny_models["allegro"]
        model = tiny.make()
        with apply_cache(model, RATE_3, STEPS) as session:
            expected = self.sample(tiny, model, clones=clones)
            with torch.inference_mode():
                assert torch.equal(self.sample(tiny, model, clones=clones), expected)
            assert list(session.branches) == ["", "call 2"]
            assert torch.equal(self.sample(tiny, model, clones=clones), expected)

    def test_guidance_that_is_switched_off(self, tiny_models):
        tiny = tiny_models["wan-2.1"]
        model = tiny.make()
        session = apply_cache(model, RATE_3, STEPS)
        assert self.sample(tiny, model, until=3).isfinite().all()
        assert [len(branch.trace) for branch in session.branches.values()] == [STEPS, 3]
        model._reset_stateful_cache()
        expected = self.sample(tiny, model, until=3)
        # a pipeline that does not say when it ends: the branch that was left begins anew with the others
        assert torch.equal(self.sample(tiny, model, until=3), expected)
        session.detach()
