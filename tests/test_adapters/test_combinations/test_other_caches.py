"""Other caches on the same model: refused where both would skip blocks, side by side where one is exact."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import AdaCacheConfig, TransformerAdapter, apply_cache
from opensora_adacache.caching.trace import computed_steps

SKIPPING = {
    "FasterCacheConfig": {"spatial_attention_block_skip_range": 2, "current_timestep_callback": lambda: 900},
    "FirstBlockCacheConfig": {},
    "MagCacheConfig": {"calibrate": True, "num_inference_steps": 5},
    "PyramidAttentionBroadcastConfig": {
        "spatial_attention_block_skip_range": 2,
        "current_timestep_callback": lambda: 900,
    },
    "SeaCacheConfig": {},
    "TaylorSeerCacheConfig": {},
}


@pytest.mark.parametrize(
    "name", [name if name.startswith("First") else pytest.param(name, marks=pytest.mark.slow) for name in SKIPPING]
)
@pytest.mark.filterwarnings("ignore")
def test_caches_of_diffusers_that_skip_are_refused_in_either_order(families, name):
    import diffusers

    if not hasattr(diffusers, name):
        pytest.skip(f"this diffusers has no {name}")
    family = families["wan"]
    pipeline = family.make()
    config = getattr(diffusers, name)(**SKIPPING[name])
    with (
        apply_cache(pipeline, family.rate_2) as session,
        pytest.raises(ValueError, match="Caching has already been enabled"),
    ):
        pipeline.transformer.enable_cache(config)
    assert session.trace == []
    pipeline.transformer.enable_cache(config)
    with pytest.raises(ValueError, match=r"cache of diffusers enabled: call its disable_cache\(\) first"):
        apply_cache(pipeline, family.rate_2)
    pipeline.transformer.disable_cache()
    assert torch.equal(family.generate(pipeline), family.plain)


def test_every_cache_of_diffusers_is_tried():
    import diffusers

    names = {name for name in dir(diffusers) if name.endswith(("CacheConfig", "BroadcastConfig"))}
    assert names <= {*SKIPPING, "TextKVCacheConfig"}


def test_keys_and_values_of_the_text_may_be_kept_beside_ours(families):
    """That cache of diffusers gives exact ones and skips no block; it comes before ours."""
    import diffusers

    if not hasattr(diffusers, "TextKVCacheConfig"):
        pytest.skip("this diffusers has no cache of text keys and values")
    family = families["wan"]
    pipeline = family.make()
    pipeline.transformer.enable_cache(diffusers.TextKVCacheConfig())
    with apply_cache(pipeline, family.rate_2) as session:
        assert torch.equal(family.check(pipeline, session), family.cached)
    assert pipeline.transformer.is_cache_enabled
    pipeline.transformer.disable_cache()
    assert torch.equal(family.generate(pipeline), family.plain)


NUCLEUS = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 3,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "joint_attention_dim": 16,
    "axes_dims_rope": (4, 6, 6),
    "moe_enabled": False,
}


@pytest.fixture
def nucleus():
    """The only model of diffusers whose blocks take keys and values of the text, and a function that denoises."""
    diffusers = pytest.importorskip("diffusers")
    if not hasattr(diffusers, "NucleusMoEImageTransformer2DModel"):
        pytest.skip("this diffusers has no model with a cache of text keys and values")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = diffusers.NucleusMoEImageTransformer2DModel(**NUCLEUS).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    texts = {name: torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(len(name))) for name in "ab"}

    def sample():
        x = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
        for t in torch.linspace(1, 1 / 6, 6):
            outs = []
            for name, text in zip(("cond", "uncond"), texts.values(), strict=True):
                with model.cache_context(name):
                    out = model(x, [(1, 4, 4)], text, torch.ones(1, 6).bool(), t[None], return_dict=False)[0]
                outs.append(out)
            x = x - (2 * outs[0] - outs[1]) / 6
        model._reset_stateful_cache()
        return x

    return model, sample


@pytest.mark.slow
def test_keys_and_values_of_the_text_in_use(nucleus):
    """diffusers computes them once per prompt, exactly; what we skip does not read them."""
    import diffusers

    model, sample = nucleus
    plain = sample()
    config, adapter = AdaCacheConfig({1e9: 2, 1e10: 1}), TransformerAdapter(timestep_range=1.0)
    with apply_cache(model, config, 6, adapter=adapter):
        cached = sample()
    model.enable_cache(diffusers.TextKVCacheConfig())
    projections = []
    model.transformer_blocks[0].encoder_proj.register_forward_pre_hook(lambda module, inputs: projections.append(1))
    torch.testing.assert_close(sample(), plain)
    assert len(projections) == 2
    with apply_cache(model, AdaCacheConfig({1.0: 1}), 6, adapter=adapter):
        torch.testing.assert_close(sample(), plain)
    with apply_cache(model, config, 6, adapter=adapter) as session:
        projections.clear()
        torch.testing.assert_close(sample(), cached)
        assert len(projections) == 2 and computed_steps(session.trace) == [1, 2, 4, 5, 6]
    assert model.is_cache_enabled
    model.disable_cache()
    torch.testing.assert_close(sample(), plain)
