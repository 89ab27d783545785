"""Pipelines whose weights are moved while they run, before and after a cache is applied."""

from __future__ import annotations

import pytest
import torch

slow = pytest.mark.slow
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # raised inside Mochi


def model(pipeline):
    pytest.importorskip("accelerate")
    pipeline.enable_model_cpu_offload(device="cpu")


def sequential(pipeline):
    """As `enable_sequential_cpu_offload` does, which calls a CPU "cpu:0": accelerate has a device "cpu" only."""
    accelerate = pytest.importorskip("accelerate")
    pipeline.remove_all_hooks()
    for part in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
        accelerate.cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)


def blocks(pipeline):
    pipeline.enable_group_offload("cpu", offload_type="block_level", num_blocks_per_group=1)


def leaves(pipeline):
    pipeline.enable_group_offload("cpu", offload_type="leaf_level")


@pytest.mark.parametrize("before", [False, pytest.param(True, marks=slow)])
@pytest.mark.parametrize("offload", [blocks, *(pytest.param(each, marks=slow) for each in (model, sequential, leaves))])
def test_offload_changes_nothing(family, offload, before):
    pipeline = family.make()
    assert torch.equal(family.check_all(pipeline, offload, before), family.cached)
    assert torch.equal(family.generate(pipeline), family.plain)


@slow
def test_one_kind_of_offload_after_another(family):
    """`enable_model_cpu_offload` takes the hooks of the sequential one off again."""
    pipeline = family.make()
    sequential(pipeline)

    def change(pipeline):
        pipeline.remove_all_hooks()
        model(pipeline)

    assert torch.equal(family.check_all(pipeline, change, before=False), family.cached)
