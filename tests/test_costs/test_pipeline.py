"""Costs of pipelines: the count on the meta device equals that of a real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from opensora_adacache.benchmark.config import load_comparison
from opensora_adacache.benchmark.costs import comparison_rows
from opensora_adacache.config import load_config
from opensora_adacache.costs.pipeline import count_pipeline_step
from opensora_adacache.costs.run import count_run, step_size
from opensora_adacache.generation.diffusers.loading import load_pipeline
from opensora_adacache.generation.jobs import plan_jobs

ROOT = Path(__file__).parents[2]
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


def test_any_number_of_first_blocks_runs_on_reused_steps_too(config):
    """Spatial and temporal blocks alternate in Latte; of other models every block counts as the first one does."""
    step = count_pipeline_step(config("latte").pipeline).flops
    assert step.run(1, 2, num_first_blocks=len(step.blocks)) == 2 * step.computed
    dicache = {"type": "DiCache", "probe_blocks": 2}
    assert count_run(config("latte", cache=dicache), 1) == step.computed + step.reused + step.blocks[0] + step.blocks[1]


def test_an_unknown_pipeline_is_refused(config):
    with pytest.raises(ValueError, match="the costs of a HunyuanVideo15Pipeline are not counted; known are those of"):
        count_run(config("hunyuan-video-1.5"))


LATTE = {
    "model_index": {
        "_class_name": "LattePipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "LatteTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
    "transformer/config": {
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": 72,
        "caption_channels": 4096,
        "cross_attention_dim": 1152,
        "in_channels": 4,
        "norm_elementwise_affine": False,
        "norm_type": "ada_norm_single",
        "num_attention_heads": 16,
        "num_layers": 28,
        "out_channels": 8,
        "patch_size": 2,
        "sample_size": 64,
    },
    "vae/config": {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
    },
    "scheduler/scheduler_config": {},
}


@pytest.mark.slow
def test_latte_at_published_size_costs_what_the_paper_prints(tmp_path):
    """The checkpoint's configs alone are enough; the paper's baseline is 1.3 % above."""
    for name, content in LATTE.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    changes = {"pipeline.from_pretrained": str(tmp_path)}
    comparison = load_comparison(ROOT / "configs" / "paper" / "table1_latte.py", changes)
    rows = {row["setting"]: row for row in comparison_rows(comparison)}
    baseline = rows["baseline"]
    assert (baseline["tokens"], baseline["steps"], baseline["text_tokens"]) == (16 * 32 * 32, 50, 20)
    assert baseline["tflops"] == pytest.approx(3394.86, abs=0.01)
    assert baseline["tflops"] / baseline["paper_tflops"] == pytest.approx(0.987, abs=0.001)
    assert rows["adacache_slow"]["tflops_ratio"] == pytest.approx(rows["adacache_slow"]["paper_ratio"], abs=0.002)
    assert rows["adacache_fast"]["cache_gb_stack"] == pytest.approx(0.151, abs=0.001)
