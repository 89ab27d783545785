"""AdaCache on every transformer class while other libraries have changed the model: compiled, moved, adapted, smaller.

tests/test_adapters/test_combinations does more of this with whole pipelines of a few families.
"""

from __future__ import annotations

import pytest
import torch

from opensora_adacache import AdaCacheConfig, apply_cache
from opensora_adacache.caching.trace import computed_steps

STEPS = 7
RATE_3 = AdaCacheConfig({1e9: 3, 1e10: 1}, decision="batch")
COMPUTED = [1, 2, 5, 6, 7]

pytestmark = [
    pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning"),  # raised inside Mochi
    pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torchao"),
]


def compiled(tiny, model):
    """Compile each block, as docs/guide/adapters.md says."""
    for block in tiny.blocks(model):
        block.compile(backend="eager")


def moved(tiny, model):
    """Load the weights of each module just before it runs, or of the whole model if the class needs them together."""
    accelerate = pytest.importorskip("accelerate")
    if tiny.name == "WanAnimate2Transformer3DModel":  # its forward asks a weight for its device
        accelerate.cpu_offload_with_hook(model, execution_device="cpu")
    else:
        accelerate.cpu_offload(model, torch.device("cpu"), offload_buffers=False)


def adapted(tiny, model):
    """Add a LoRA with weights that are not zero to every linear layer of the blocks."""
    peft = pytest.importorskip("peft")
    blocks = {id(part) for block in tiny.blocks(model) for part in block.modules()}
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and id(part) in blocks]
    model.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=linear, init_lora_weights=False))


def smaller(tiny, model):
    """Store the weights of the blocks as int8."""
    torchao = pytest.importorskip("torchao.quantization")
    for block in tiny.blocks(model):
        torchao.quantize_(block, torchao.Int8WeightOnlyConfig())


@pytest.mark.slow
@pytest.mark.parametrize("change", [compiled, moved, adapted, smaller])
def test_a_changed_model(any_tiny, change, fresh_dynamo):
    tiny = any_tiny
    model = tiny.make()
    if change is adapted and not hasattr(model, "add_adapter"):
        pytest.skip("diffusers gives this class no LoRA")
    unchanged = tiny.sample(model)
    change(tiny, model)
    plain = tiny.sample(model)
    if change in (adapted, smaller):
        assert not torch.equal(plain, unchanged)
    else:
        torch.testing.assert_close(plain, unchanged)
    with apply_cache(model, AdaCacheConfig({1.0: 1}), STEPS):
        # compiled blocks run their probe uncompiled
        compare(tiny.sample(model), plain, exactly=change is not compiled)
    with apply_cache(model, RATE_3, STEPS) as session:
        first = tiny.sample(model)
        assert [computed_steps(branch.trace) for branch in session.branches.values()] == [COMPUTED] * len(
            session.branches
        )
        assert torch.equal(tiny.sample(model), first)
    assert first.isfinite().all() and not torch.equal(first, plain)
    assert torch.equal(tiny.sample(model), plain)


def compare(out, expected, exactly):
    if exactly:
        assert torch.equal(out, expected)
    else:
        torch.testing.assert_close(out, expected)
