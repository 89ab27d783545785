"""AdaCache on each diffusers transformer: guarantees of the adapter, on the real class with random weights."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import AdaCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.trace import computed_steps

STEPS = 7
RATE_3 = AdaCacheConfig({1e9: 3, 1e10: 1}, decision="sample")  # every distance is below the first threshold
COMPUTED = [1, 2, 5, 6, 7]  # the first measurement is at step 2; 2 + 3 = 5; the last two always compute
MOREG = MoRegConfig(steps=(2, 6))

pytestmark = [
    pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning"),  # raised inside Mochi
    pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
]


def state_of(model):
    return [(name, {key for key in vars(module) if key != "_diffusers_hook"}) for name, module in model.named_modules()]


def count_blocks(tiny, model):
    """Count the calls of every block."""
    calls = [0] * len(tiny.blocks(model))
    for index, block in enumerate(tiny.blocks(model)):

        def count(module, inputs, index=index):
            calls[index] += 1

        block.register_forward_pre_hook(count)
    return calls


def test_a_codebook_of_ones_is_bit_identical_and_detaching_leaves_nothing(tiny):
    model = tiny.make()
    plain, before = tiny.sample(model), state_of(model)
    session = apply_cache(model, AdaCacheConfig({1.0: 1}, moreg=MOREG if tiny.has_grid else None), STEPS)
    assert torch.equal(tiny.sample(model), plain)
    session.detach()
    assert state_of(model) == before and session.cache_bytes() == 0
    assert len(session.branches) == (2 if tiny.two_calls else 1)
    for branch in session.branches.values():
        assert computed_steps(branch.trace) == list(range(1, STEPS + 1))
        assert all(0 < record.distance < 10 for record in branch.trace[1:])
        if tiny.has_grid:
            assert all(record.motion > 0 for record in branch.trace[1:6]) and branch.trace[2].motion != 1


def test_schedule_blocks_repetition_and_memory(every_tiny):
    tiny = every_tiny
    model = tiny.make()
    calls = count_blocks(tiny, model)
    with apply_cache(model, RATE_3, STEPS) as session:
        first = tiny.sample(model)
        schedules = [computed_steps(branch.trace) for branch in session.branches.values()]
        second = tiny.sample(model)
    assert schedules == [COMPUTED] * (2 if tiny.two_calls else 1)
    filled = 2 if tiny.prepare else 0  # filling a memory runs every block once for each of the two runs
    assert calls == [2 * len(COMPUTED) * len(schedules) + filled] * len(calls)  # no block runs on a skipped step
    assert torch.equal(first, second)
    rows = 1 if tiny.two_calls else 2
    for branch in session.branches.values():
        assert 0 < branch.peak_cache_bytes <= 2.1 * (rows * tiny.residual * 4)


def test_an_exception_leaves_the_next_call_clean(tiny):
    model = tiny.make()
    with apply_cache(model, RATE_3, STEPS) as session:
        expected = tiny.sample(model)
        calls = []

        def fail(module, inputs):
            calls.append(1)
            if len(calls) == 4:
                raise RuntimeError("lost the device")

        handle = tiny.blocks(model)[-1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="lost the device"):
            tiny.sample(model)
        handle.remove()
        assert session.cache_bytes() == 0
        assert torch.equal(tiny.sample(model), expected)


def test_a_batch_of_two_equals_two_single_calls(tiny):
    if tiny.one_video:
        pytest.skip("its videos decide together")
    model = tiny.make()
    distances, single, schedules = [], [], []
    for seed in (1, 2):
        with apply_cache(model, AdaCacheConfig({1.0: 1}), STEPS) as session:
            tiny.sample(model, [seed])
        distances.append([branch.trace[1].distance for branch in session.branches.values()][0])
    between = sum(distances) / 2  # so that the first decisions differ
    config = AdaCacheConfig({between: 3, 1e9: 1}, decision="sample")
    for seed in (1, 2):
        with apply_cache(model, config, STEPS) as session:
            single.append(tiny.sample(model, [seed]))
        schedules.append([computed_steps(branch.trace) for branch in session.branches.values()])
    with apply_cache(model, config, STEPS) as session:
        together = tiny.sample(model, [1, 2])
    branches = session.branches.values()
    assert [[computed_steps(branch.traces[video]) for branch in branches] for video in (0, 1)] == schedules
    assert schedules[0] != schedules[1]
    torch.testing.assert_close(together, torch.cat(single), atol=2e-5, rtol=1e-5)


def test_forecasts_on_every_model(tiny):
    model = tiny.make()
    calls = count_blocks(tiny, model)
    profile = {"sensitivity": (2.0, 1.0, 0.5), "decision": "sample"}
    config = ForecastCacheConfig(computed_steps=5, order=2, corrector=0.5, **profile)
    single = []
    for seed in (1, 2):
        with apply_cache(model, config, STEPS, scheduler="rectified flow") as session:
            single.append(tiny.sample(model, [seed]))
            assert torch.equal(tiny.sample(model, [seed]), single[-1])
        branches = session.branches.values()
        assert all(len(computed_steps(branch.trace)) == 5 for branch in branches)
        assert all(record.distance > 0 for branch in branches for record in branch.trace[1:3])
        rows = 1 if tiny.two_calls else 2
        # the residual and its two differences; a model that reads its text states stores those of the text as well;
        # the corrector holds an output and its drift
        residual, output = rows * tiny.residual * 4, rows * single[-1].numel() * 4
        assert all(branch.peak_cache_bytes <= 3.2 * residual + 2 * output for branch in branches)
    assert calls == [4 * 5 * len(branches) + (4 if tiny.prepare else 0)] * len(calls)
    if tiny.one_video:
        pytest.skip("its videos decide together")
    with apply_cache(model, config, STEPS, scheduler="rectified flow"):
        together = tiny.sample(model, [1, 2])
    torch.testing.assert_close(together, torch.cat(single), atol=2e-5, rtol=1e-5)
