"""Compiled models in whole pipelines."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from opensora_adacache import apply_cache

pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo"),
    pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning"),  # raised inside Mochi
]


def compile_blocks(family, pipeline, backend):
    """As docs/guide/adapters.md says: `compile_repeated_blocks` where the model has it, else each block."""
    if pipeline.transformer._repeated_blocks:
        pipeline.transformer.compile_repeated_blocks(backend=backend, fullgraph=True)
    else:
        for block in family.blocks(pipeline):
            block.compile(backend=backend, fullgraph=True)


@pytest.mark.slow
def test_compiled_blocks(family):
    pipeline, counter = family.make(), CompileCounter()
    compile_blocks(family, pipeline, counter)
    plain = family.generate(pipeline)
    assert torch.equal(plain, family.plain) and counter.frame_count > 0
    with apply_cache(pipeline, family.rate_2) as session:
        first = family.check(pipeline, session)
        compiled = counter.frame_count
        assert torch.equal(family.check(pipeline, session), first) and counter.frame_count == compiled
    assert torch.equal(first, family.cached)
    assert torch.equal(family.generate(pipeline), plain) and counter.frame_count == compiled


@pytest.mark.slow
def test_compiled_blocks_of_an_offloaded_model(family):
    pytest.importorskip("accelerate")
    pipeline = family.make()
    compile_blocks(family, pipeline, "eager")
    pipeline.enable_model_cpu_offload(device="cpu")
    with apply_cache(pipeline, family.rate_2) as session:
        assert torch.equal(family.check(pipeline, session), family.cached)


def test_a_model_that_is_compiled_as_a_whole_is_refused(family):
    pipeline = family.make()
    pipeline.transformer.compile(backend="eager")
    with pytest.raises(
        ValueError, match="compiled as a whole, so that no step can skip its blocks: compile the blocks"
    ):
        apply_cache(pipeline, family.rate_2)
    pipeline.transformer = torch.compile(family.make().transformer, backend="eager")
    with pytest.raises(ValueError, match="compiled as a whole"):
        apply_cache(pipeline, family.rate_2)
