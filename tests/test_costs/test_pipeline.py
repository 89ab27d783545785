"""Costs of pipelines: the count on the meta device equals that of a real run."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from opensora_adacache.config import load_config
from opensora_adacache.costs.pipeline import count_pipeline_step
from opensora_adacache.costs.run import count_run, step_size
from opensora_adacache.generation.diffusers.loading import load_pipeline
from opensora_adacache.generation.jobs import plan_jobs

# Mochi asks for a kind of autocast that CPUs lack, and computes without it.
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype is not supported")

COUNTED = ["latte", "cogvideox", "wan", "wan-2.2", "hunyuan-video", "ltx-video"]
FAMILIES = [pytest.param(name, marks=[] if name == "latte" else pytest.mark.slow) for name in COUNTED]


@pytest.fixture
def config(tmp_path, pipeline_config):
    def config(name, **overrides):
        path = tmp_path / "run.py"
        path.write_text(pipeline_config(name, num_inference_steps=2))
        return load_config(path, overrides)

    return config


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_costs_what_a_real_run_costs(name, config):
    run = config(name)
    planned = count_pipeline_step(run.pipeline)
    pipeline = load_pipeline(run.pipeline, torch.device("cpu")).pipeline
    counted = []

    def count(original):
        def call(*args, **kwargs):
            with FlopCounterMode(display=False) as counter:
                out = original(*args, **kwargs)
            counted.append(counter.get_total_flops())
            return out

        return call

    for transformer in (pipeline.transformer, getattr(pipeline, "transformer_2", None)):
        if transformer is not None:
            transformer._compiled_call_impl = count(transformer._call_impl)
    arguments = load_pipeline(run.pipeline, torch.device("cpu")).maker(run).arguments(plan_jobs(run)[:1])
    if name == "latte":  # it drops the padding of a prompt
        planned = count_pipeline_step(run.pipeline, num_text_tokens=4)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        pipeline(**arguments, output_type="latent")
    assert planned.flops.run(2, 2) == sum(counted)
    assert 0 < planned.flops.reused < 0.5 * planned.flops.computed
    assert planned.num_models == (2 if name == "wan-2.2" else 1)


def test_costs_of_a_cached_run(config):
    plain, cached = config("latte"), config("latte", cache={"type": "Static", "interval": 2})
    step = count_pipeline_step(plain.pipeline)
    assert count_run(plain) == 2 * step.flops.computed == count_run(cached)  # the last two steps always compute
    assert count_run(config("latte", **{"cache.codebook": {1.0: 1}}), 1) == step.flops.computed + step.flops.reused
    size = step_size(plain)
    assert (size.num_tokens, size.num_rows, size.hidden_size, size.bytes_per_value) == (5 * 2 * 2, 2, 32, 4)


def test_an_unknown_pipeline_is_refused(config):
    with pytest.raises(ValueError, match="the costs of a HunyuanVideo15Pipeline are not counted; known are those of"):
        count_run(config("hunyuan-video-1.5"))
