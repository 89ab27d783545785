"""LoRA adapters of peft that are loaded, fused, switched and unloaded before a cache is applied and while it is on."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import apply_cache

peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # raised inside Mochi

OTHERS = ("cogvideox", "hunyuan-video", "ltx-video", "mochi")
"""The pipelines of Latte and HunyuanVideo 1.5 load no LoRA."""


@pytest.fixture(params=["wan", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def family(request, families):
    return families[request.param]


@pytest.fixture
def lora(family, tmp_path):
    """A folder with a LoRA adapter of the transformer, saved as users save theirs."""
    pipeline = family.make()
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    pipeline.transformer.add_adapter(config)
    state = peft.get_peft_model_state_dict(pipeline.transformer)
    gen = torch.Generator().manual_seed(3)
    state = {name: 0.1 * torch.randn(value.shape, generator=gen) for name, value in state.items()}
    type(pipeline).save_lora_weights(tmp_path, transformer_lora_layers=state)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("fuse", [False, True])
def test_loading_and_unloading(family, lora, before, fuse):
    pipeline = family.make()

    def load(pipeline):
        pipeline.load_lora_weights(lora)
        if fuse:
            pipeline.fuse_lora()

    adapted = family.check_all(pipeline, load, before)
    assert not torch.equal(adapted, family.cached)
    if fuse:
        pipeline.unfuse_lora()
    session = apply_cache(pipeline, family.rate_2)
    pipeline.unload_lora_weights()
    torch.testing.assert_close(family.check(pipeline, session), family.cached, atol=1e-5, rtol=1e-4)
    session.detach()


def test_an_adapter_that_is_switched_between_calls(family, lora):
    pipeline = family.make()
    pipeline.load_lora_weights(lora, adapter_name="style")
    with apply_cache(pipeline, family.rate_2) as session:
        adapted = family.check(pipeline, session)
        pipeline.disable_lora()
        assert torch.equal(family.check(pipeline, session), family.cached)
        pipeline.enable_lora()
        assert torch.equal(family.check(pipeline, session), adapted)
        pipeline.set_adapters("style", 0.5)
        half = family.check(pipeline, session)
    assert not torch.equal(half, adapted) and not torch.equal(half, family.cached)


def test_a_model_that_takes_no_adapter(families):
    """diffusers has no LoRA for Latte and Allegro, so nothing is to be combined."""
    import diffusers

    for name in ("LatteTransformer3DModel", "AllegroTransformer3DModel"):
        assert not hasattr(getattr(diffusers, name), "add_adapter")
