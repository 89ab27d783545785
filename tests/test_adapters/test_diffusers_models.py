"""AdaCache on each diffusers transformer: guarantees of the adapter, on the real class with random weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from opensora_adacache import AdaCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.adapters.diffusers.models import MODELS
from opensora_adacache.caching.forecast.config import ForecastCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.seacache import SeaCacheConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
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


@pytest.mark.parametrize("name", ["minimax-h3", "sana-wm-refiner"])
def test_moreg_without_a_grid_is_refused(tiny_models, name):
    model = tiny_models[name].make()
    before = state_of(model)
    with pytest.raises(ValueError, match=r"AdaCacheConfig needs the frame layout, which is unknown for .*: set moreg="):
        apply_cache(model, AdaCacheConfig({1.0: 1}, moreg=MOREG), STEPS)
    assert state_of(model) == before


def with_memory(tiny, model):
    """Return the arguments of a call with two videos and a memory of both."""
    x, text = torch.cat([tiny.latents(seed) for seed in (1, 2)]), [tiny.text(seed) for seed in (1, 2)]
    text = {name: torch.cat([one[name] for one in text]) for name in text[0]}
    return {**tiny.arguments(x, torch.tensor(900.0), text), **tiny.shared, **tiny.prepare(model)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wan-animate-2", "anyflow-far"])
def test_a_memory_of_all_videos_is_not_divided(tiny_models, name):
    tiny = tiny_models[name]
    model = tiny.make()
    with torch.no_grad(), apply_cache(model, RATE_3, STEPS):
        arguments = with_memory(tiny, model)
        with pytest.raises(ValueError, match="get kv_cache, which holds all videos of the batch and cannot be divided"):
            model(**arguments)


def test_a_model_that_is_split_over_devices_is_refused(tiny_models):
    model = tiny_models["wan-2.1"].make()
    model._parallel_config = object()  # what enable_parallelism sets on several devices
    with pytest.raises(ValueError, match="is split over several devices in a way that is not supported with a cache"):
        apply_cache(model, RATE_3, STEPS)


def test_a_control_hint_after_the_last_block_is_refused(tiny_models):
    tiny = tiny_models["wan-vace"]
    model = replace(tiny, config={**tiny.config, "vace_layers": [0, 2]}).make()
    with pytest.raises(ValueError, match="a control hint is added after its last block"):
        apply_cache(model, RATE_3, STEPS)


@pytest.mark.slow
def test_a_block_that_some_calls_leave_out(tiny_models):
    """Wan-Animate 2 leaves out its tenth block without the prompt; no video token changes for that."""
    tiny = tiny_models["wan-animate-2"]
    tiny = replace(tiny, config={**tiny.config, "num_layers": 11}, shared={"is_uncondtion": True})
    model = tiny.make()
    plain = tiny.sample(model)
    with apply_cache(model, AdaCacheConfig({1.0: 1}), STEPS):
        assert torch.equal(tiny.sample(model), plain)
    calls = count_blocks(tiny, model)
    with apply_cache(model, RATE_3, STEPS) as session:
        tiny.sample(model)
    computed = len(COMPUTED) * len(session.branches)
    assert calls == [computed + 1] * 9 + [1] + [computed + 1]  # and once with the prompt, to fill the memory


def test_a_memory_is_filled_beside_the_steps(tiny_models):
    """The refiner keeps keys and values of a finished chunk in calls that are no steps."""
    from diffusers.models.transformers.transformer_sana_wm_refiner import SanaWMRefinerKVCache

    tiny = tiny_models["sana-wm-refiner"]
    model = tiny.make()
    memory = SanaWMRefinerKVCache(len(model.transformer_blocks))
    x, text = tiny.latents(1), tiny.text(1)
    arguments = {**tiny.arguments(x, torch.tensor(0.0), text), **tiny.shared, "kv_cache": memory}
    with torch.no_grad():
        plain = tiny.sample(model, [1])
        with apply_cache(model, RATE_3, STEPS) as session:
            expected = tiny.sample(model, [1])
            model(**arguments, kv_cache_mode="capture_pre_rope")
            assert torch.equal(tiny.sample(model, [1]), expected) and not torch.equal(expected, plain)
        assert all(len(branch.trace) == STEPS for branch in session.branches.values())
    assert memory.get(0).get_captured_pre_rope()[0].shape[1] == x.shape[1]


@pytest.mark.slow
def test_policies_that_read_the_first_block(any_tiny):
    """TeaCache, SeaCache and FBCache with thresholds that compute every step, and with ones that skip."""
    tiny = any_tiny
    model, known = tiny.make(), MODELS[tiny.name]
    plain = tiny.sample(model)
    sea = known.rectified_flow and known.grid is not None
    if not sea:
        with pytest.raises(ValueError, match="SeaCacheConfig (needs the frame layout|reads the noise level)"):
            apply_cache(model, SeaCacheConfig(1e-9), STEPS)
    for policy in (partial(TeaCacheConfig, coefficients=(1.0, 0.0)), FBCacheConfig, *([SeaCacheConfig] if sea else [])):
        with apply_cache(model, policy(threshold=1e-9), STEPS) as session:
            assert torch.equal(tiny.sample(model), plain)
        assert computed_steps(session.trace) == list(range(1, STEPS + 1))
        with apply_cache(model, policy(threshold=1e9), STEPS) as session:
            cached = tiny.sample(model)
        assert len(computed_steps(session.trace)) <= 2  # the first, and for some the last
        assert cached.isfinite().all() and not torch.equal(cached, plain)
