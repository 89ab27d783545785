"""The diffusers adapter: branches, the start and end of runs, refusals, compiled blocks, every policy."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

from opensora_adacache import AdaCacheConfig, MoRegConfig, apply_cache
from opensora_adacache.caching.codebook import OPEN_SORA_CODEBOOKS
from opensora_adacache.caching.policies.bwcache import BWCacheConfig
from opensora_adacache.caching.policies.dicache import DiCacheConfig
from opensora_adacache.caching.policies.easycache import EasyCacheConfig
from opensora_adacache.caching.policies.fbcache import FBCacheConfig
from opensora_adacache.caching.policies.magcache import MagCacheConfig
from opensora_adacache.caching.policies.navicache import NaviCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig, StaticConfig
from opensora_adacache.caching.policies.seacache import SeaCacheConfig
from opensora_adacache.caching.policies.sencache import SenCacheConfig
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.trace import computed_steps

STEPS = 7
ONES = AdaCacheConfig({1.0: 1})
RATE_3 = AdaCacheConfig({1e9: 3, 1e10: 1})
RATIOS = (1.0,) * (STEPS - 1)
# a setting that computes every step, a setting that skips, and the steps the latter computes if they are known
POLICIES = {
    "BWCache": (BWCacheConfig(threshold=1e-9), BWCacheConfig(threshold=9.0, skipped_fraction=0.3), [1, 2, 5, 7]),
    "DiCache": (DiCacheConfig(threshold=1e-9), DiCacheConfig(threshold=0.5, subtract_input=True), None),
    "EasyCache": (EasyCacheConfig(threshold=1e-9), EasyCacheConfig(threshold=0.3), None),
    "FBCache": (FBCacheConfig(threshold=1e-9), FBCacheConfig(threshold=0.5), None),
    "MagCache": (MagCacheConfig(ratios=RATIOS, retention=1.0), MagCacheConfig(ratios=RATIOS, max_skips=2), [1, 4, 7]),
    "NaviCache": (NaviCacheConfig(threshold=1e-9), NaviCacheConfig(threshold=0.5, align_steps=2), None),
    "Planned": (PlannedConfig(steps=range(1, 8)), PlannedConfig(steps=(1, 3, 7)), [1, 3, 7]),
    "SeaCache": (SeaCacheConfig(threshold=1e-9), SeaCacheConfig(threshold=0.5), None),
    "SenCache": (
        SenCacheConfig(RATIOS, RATIOS, threshold=1e-9),
        SenCacheConfig(RATIOS, RATIOS, threshold=9.0, max_skips=2),
        [1, 4, 7],
    ),
    "Static": (StaticConfig(interval=1), StaticConfig(interval=3), [1, 4, 7]),
    "TaylorSeer": (TaylorSeerConfig(interval=1), TaylorSeerConfig(interval=3, first_steps=2), [1, 2, 5, 7]),
    "TeaCache": (
        TeaCacheConfig(threshold=1e-9, coefficients=(1.0, 0.0)),
        TeaCacheConfig(threshold=0.5, coefficients=(1.0, 0.0)),
        None,
    ),
}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        pytest.param(
            model, name, marks=pytest.mark.slow if name in ("BWCache", "DiCache", "NaviCache", "SenCache") else ()
        )
        for model in ("wan-2.1", "latte")
        for name in POLICIES
        if (model, name) != ("latte", "SeaCache")
    ],
)
def test_every_policy(tiny_models, model, name):
    tiny = tiny_models[model]
    transformer = tiny.make()
    all_steps, some_steps, expected = POLICIES[name]
    plain = tiny.sample(transformer)
    with apply_cache(transformer, all_steps, STEPS):
        assert torch.equal(tiny.sample(transformer), plain)
    calls = []
    tiny.blocks(transformer)[-1].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    with apply_cache(transformer, some_steps, STEPS) as session:
        cached = tiny.sample(transformer)
    schedules = [computed_steps(branch.trace) for branch in session.branches.values()]
    assert sum(map(len, schedules)) == len(calls) < STEPS * len(schedules)
    assert expected is None or schedules == [expected] * len(schedules)
    assert cached.isfinite().all() and not torch.equal(cached, plain)


def test_branches_decide_for_themselves(tiny_models):
    """The two calls of guidance see different prompts, so their distances differ; a threshold separates them."""
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    # in the first layer, self-attention does not depend on the prompt yet
    with apply_cache(model, AdaCacheConfig({1.0: 1}, cache_loc=(1,)), STEPS) as session:
        tiny.sample(model)
    cond, uncond = (session.branches[name].trace[1].distance for name in ("cond", "uncond"))
    assert cond != uncond
    with apply_cache(model, AdaCacheConfig({(cond + uncond) / 2: 3, 1e9: 1}, cache_loc=(1,)), STEPS) as session:
        tiny.sample(model)
    schedules = {name: computed_steps(branch.trace) for name, branch in session.branches.items()}
    assert (schedules["cond"] == [1, 2, 5, 6, 7]) == (cond < uncond)
    assert schedules["cond"] != schedules["uncond"]


def test_rows_without_guidance_are_videos_of_their_own(tiny_models):
    """A batch of two videos without guidance has no branches to pair."""
    tiny = tiny_models["cogvideox"]
    model = tiny.make()
    with apply_cache(model, AdaCacheConfig({1.0: 1}, decision="sample"), 1) as session, torch.no_grad():
        text = {name: torch.cat([tiny.text(0)[name], tiny.text(1)[name]]) for name in tiny.text(0)}
        tiny.call(model, "cond_uncond", torch.cat([tiny.latents(0), tiny.latents(1)]), torch.tensor(900.0), text)
        assert len(session.traces) == 2
        tiny.call(model, "cond_uncond", torch.cat([tiny.latents(0)] * 2), torch.tensor(900.0), text)
        assert len(session.traces) == 1


@pytest.mark.parametrize("name", ["wan-2.1", "cogvideox"])
def test_an_exception_between_two_calls_of_the_model(tiny_models, name):
    tiny = tiny_models[name]
    model = tiny.make()

    def fail(index):
        if index == 3:
            raise RuntimeError("from the scheduler")

    session = apply_cache(model, RATE_3, STEPS)
    expected = tiny.sample(model)
    with pytest.raises(RuntimeError, match="from the scheduler"):
        tiny.sample(model, on_step=fail)
    with pytest.warns(UserWarning, match="begins a new run after 3 of 7 steps"):
        assert torch.equal(tiny.sample(model), expected)
    assert torch.equal(tiny.sample(model), expected)
    session.detach()


def test_a_step_index_tells_a_new_run(tiny_models):
    """If a pipeline provides its step index, timesteps need not be read."""
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    with apply_cache(model, RATE_3, 2) as session, torch.no_grad():
        for _ in range(2):
            with (
                model.cache_context("cond", step_index=0),
                warnings.catch_warnings(record=True) as caught,
            ):
                warnings.simplefilter("always")
                model(tiny.latents(0), torch.tensor([500.0]), **tiny.text(0))
        assert ["begins a new run" in str(warning.message) for warning in caught] == [True]
        session.reset()


@pytest.mark.parametrize("name", ["wan-2.1", "cogvideox"])
def test_another_number_of_steps(tiny_models, name):
    tiny = tiny_models[name]
    model = tiny.make()
    session = apply_cache(model, RATE_3, STEPS)
    tiny.sample(model, steps=5)
    with pytest.warns(UserWarning, match=r"only 5 of 7 steps ran when the pipeline ended: pass apply_cache"):
        model._reset_stateful_cache()  # every diffusers pipeline does this when it ends
    with pytest.warns(UserWarning, match=r"goes on to timestep .* after 7 steps.*: pass apply_cache"):
        tiny.sample(model, steps=9)
    with pytest.warns(UserWarning, match=r"only 2 of 7 steps ran when the pipeline ended"):
        model._reset_stateful_cache()
    tiny.sample(model)
    model._reset_stateful_cache()
    assert computed_steps(session.trace) == [1, 2, 5, 6, 7]
    session.detach()


def test_two_calls_per_step_of_one_branch_go_beyond_its_steps(tiny_models):
    """A second-order sampler makes more calls than steps; the session counts calls."""
    tiny = tiny_models["cogvideox"]
    model = tiny.make()
    with apply_cache(model, ONES, 2) as session, torch.no_grad():
        for t in (900.0, 900.0):
            tiny.call(model, "cond_uncond", tiny.latents(0), torch.tensor(t), tiny.text(0))
        with pytest.warns(UserWarning, match="goes on to timestep 800 after 2 steps"):
            tiny.call(model, "cond_uncond", tiny.latents(0), torch.tensor(800.0), tiny.text(0))
        session.reset()


def test_other_caches_are_refused(tiny_models):
    from diffusers import FirstBlockCacheConfig
    from diffusers.hooks import apply_first_block_cache

    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    model.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(ValueError, match=r"cache of diffusers enabled: call its disable_cache"):
        apply_cache(model, ONES, STEPS)
    model.disable_cache()
    with apply_cache(model, ONES, STEPS):
        with pytest.raises(ValueError, match="attached already"):
            apply_cache(model, ONES, STEPS)
        with pytest.raises(ValueError, match="already been enabled"):
            model.enable_cache(FirstBlockCacheConfig())
        apply_first_block_cache(model, FirstBlockCacheConfig())
        with pytest.raises(ValueError, match="another cache attached"):
            tiny.sample(model)
    with pytest.raises(ValueError, match="another cache attached"):
        apply_cache(model, ONES, STEPS)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("wan-2.1", AdaCacheConfig({1.0: 1}, cache_res="t-attn"), "over space and time at once: leave cache_res out"),
        ("latte", AdaCacheConfig({1.0: 1}, cache_res="ca-mlp"), "must be 't-attn' or 's-attn', got 'ca-mlp'"),
        ("wan-2.1", AdaCacheConfig({1.0: 1}, cache_loc=(2,)), r"layers of 0\.\.1, got 2"),
        ("wan-2.1", AdaCacheConfig({1.0: 1}, granularity="block"), "only granularity='stack' is possible"),
        ("latte", SeaCacheConfig(), "noise level from the timestep, which LatteTransformer3DModel does not give"),
        ("flux", SeaCacheConfig(), "modulated input, which is unknown for FluxTransformer2DModel"),
        (
            "flux",
            AdaCacheConfig({1.0: 1}, moreg=MoRegConfig(steps=(2, 5))),
            "needs the frame layout, which is unknown for FluxTransformer2DModel: set moreg=None",
        ),
        ("wan-2.1", MagCacheConfig(ratios=(1.0,)), "ratios belong to 2 steps, but the run has 7"),
    ],
)
def test_settings_that_do_not_fit_leave_the_model_alone(tiny_models, name, config, message):
    model = tiny_models[name].make()
    before = [set(vars(module)) for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        apply_cache(model, config, STEPS)
    assert [set(vars(module)) for module in model.modules()] == before


def test_models_that_are_not_known():
    from diffusers import AutoencoderKL, PixArtTransformer2DModel

    with pytest.raises(ValueError, match="does not know AutoencoderKL"):
        apply_cache(AutoencoderKL(norm_num_groups=4, block_out_channels=(4,)), ONES, STEPS)
    small = PixArtTransformer2DModel(num_attention_heads=2, attention_head_dim=4, num_layers=1, cross_attention_dim=8)
    small.transformer_blocks = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="its blocks Linear are not registered in diffusers"):
        apply_cache(small, ONES, STEPS)


@pytest.mark.parametrize("config", [AdaCacheConfig(OPEN_SORA_CODEBOOKS["fast"]), TeaCacheConfig()])
def test_constants_of_open_sora_on_another_model_warn(tiny_models, config):
    model = tiny_models["wan-2.1"].make()
    with pytest.warns(UserWarning, match="published for Open-Sora 1.2, not for WanTransformer3DModel"):
        apply_cache(model, config, STEPS).detach()


def test_any_transformer_with_registered_blocks(tiny_models):
    """An image model with two lists of blocks that return text first; only its blocks are known."""
    tiny = tiny_models["flux"]
    model = tiny.make()
    plain = tiny.sample(model)
    with apply_cache(model, ONES, STEPS):
        assert torch.equal(tiny.sample(model), plain)
    calls = []
    for block in tiny.blocks(model):
        block.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    config = AdaCacheConfig({1e9: 3, 1e10: 1}, decision="sample")
    with apply_cache(model, config, STEPS) as session:
        single = [tiny.sample(model, [seed]) for seed in (1, 2)]
        together = tiny.sample(model, [1, 2])
    assert [computed_steps(trace) for trace in session.traces] == [[1, 2, 5, 6, 7]] * 2
    assert len(calls) == 3 * 5 * len(tiny.blocks(model))
    torch.testing.assert_close(together, torch.cat(single), atol=2e-5, rtol=1e-5)


def test_tokens_that_do_not_tell_their_frames(tiny_models):
    tiny = tiny_models["ltx"]
    model = tiny.make()
    arguments = {"hidden_states": tiny.latents(0), "timestep": torch.tensor([500.0]), **tiny.text(0)}
    coordinates = torch.rand(1, 3, 64)
    with apply_cache(model, ONES, 1), torch.no_grad():
        model(**arguments, video_coords=coordinates)
    moreg = AdaCacheConfig({1.0: 1}, moreg=MoRegConfig(steps=(1, 1)))
    with (
        apply_cache(model, moreg, 1),
        pytest.raises(ValueError, match="the frames of this call's 64 tokens are unknown"),
    ):
        model(**arguments, video_coords=coordinates)


def test_compiled_blocks_are_not_compiled_anew_per_step(tiny_models, fresh_dynamo):
    from torch._dynamo.testing import CompileCounter

    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    counter = CompileCounter()
    for block in model.blocks:
        block.compile(backend=counter, fullgraph=True)
    plain = tiny.sample(model)
    compiled = counter.frame_count
    assert compiled > 0
    with apply_cache(model, RATE_3, STEPS) as session:
        first = tiny.sample(model)
        assert torch.equal(tiny.sample(model), first) and computed_steps(session.trace) == [1, 2, 5, 6, 7]
    with apply_cache(model, ONES, STEPS):
        assert torch.equal(tiny.sample(model), plain)
    assert torch.equal(tiny.sample(model), plain)  # still compiled after detaching
    assert all(block._compiled_call_impl is not None for block in model.blocks)
    assert counter.frame_count == compiled


def test_compiling_at_the_wrong_place_or_time(tiny_models, fresh_dynamo):
    tiny = tiny_models["wan-2.1"]
    model = tiny.make()
    with apply_cache(model, ONES, STEPS):
        model.blocks[0].compile(backend="eager")
        with pytest.raises(ValueError, match="compile them first, then apply the cache"):
            tiny.sample(model)
    with pytest.raises(ValueError, match="compiled as a whole; compile its blocks instead"):
        apply_cache(torch.compile(model, backend="eager"), ONES, STEPS)
    model.blocks[0] = torch.compile(model.blocks[0], backend="eager")
    with pytest.raises(ValueError, match=r"use block.compile\(\)"):
        apply_cache(model, ONES, STEPS)
    model = tiny.make()
    model.compile(backend="eager")
    with pytest.raises(ValueError, match="compiled as a whole"):
        apply_cache(model, ONES, STEPS)


def test_a_model_with_a_cache_is_not_compiled_as_a_whole(tiny_models):
    """It would run without the cache, and nothing would say so."""
    tiny = tiny_models["cogvideox"]
    model = tiny.make()
    plain = tiny.sample(model)
    with apply_cache(model, ONES, STEPS):
        with pytest.raises(ValueError, match="would go past: detach the session, compile the blocks instead"):
            model.compile()
        assert torch.equal(tiny.sample(model), plain)
        copy.deepcopy(model).compile(backend="eager")
    model.compile(backend="eager")
    assert model._compiled_call_impl is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace:UserWarning")
def test_a_compiled_model_that_holds_one_with_a_cache(tiny_models, fresh_dynamo):
    tiny = tiny_models["ltx"]
    model = tiny.make()
    with apply_cache(model, ONES, STEPS), pytest.raises(ValueError, match="no block of the model ran within its call"):
        tiny.sample(torch.compile(model, backend="eager"))


def test_a_pipeline_is_not_a_model():
    class Pipeline:
        transformer = torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match="got Pipeline; give it the pipeline's transformer"):
        apply_cache(Pipeline(), ONES, STEPS)
