"""Loading pipelines: dtypes, schedulers, placement, and errors before the weights are read."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.config.pipeline import PipelineSettings
from opensora_adacache.generation.diffusers.loading import changed_scheduler, load_pipeline

CPU = torch.device("cpu")


@pytest.fixture
def settings(pipeline_folder):
    def settings(name="wan", **values):
        call = {"num_inference_steps": 6, **values.pop("call", {})}
        return PipelineSettings(**{"from_pretrained": str(pipeline_folder(name)), "call": call, **values})

    return settings


def test_dtypes_are_diffusers_own_way(settings):
    """Modules that a model wants in float32 stay there, and each component can have its own dtype."""
    pipeline = load_pipeline(settings(torch_dtype={"default": "bf16", "vae": "fp32"}), CPU).pipeline
    assert pipeline.vae.dtype == torch.float32 and pipeline.text_encoder.dtype == torch.bfloat16
    transformer = pipeline.transformer
    assert transformer.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert transformer.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    assert transformer.blocks[0].scale_shift_table.dtype == torch.float32
    assert load_pipeline(settings(), CPU).pipeline.vae.dtype == torch.bfloat16


def test_scheduler_and_tiling(settings):
    changes = {"type": "UniPCMultistepScheduler", "flow_shift": 5.0, "prediction_type": "flow_prediction"}
    loaded = load_pipeline(settings(scheduler=changes, vae_tiling=True), CPU)
    scheduler = loaded.pipeline.scheduler
    assert type(scheduler).__name__ == "UniPCMultistepScheduler" and scheduler.config.flow_shift == 5.0
    assert loaded.pipeline.vae.use_tiling and loaded.loading_seconds > 0
    with pytest.raises(ValueError, match="pipeline.scheduler.flow_shfit is no setting of UniPC.*did you mean"):
        changed_scheduler(scheduler, {"flow_shfit": 3.0})
    with pytest.raises(
        ValueError, match="pipeline.scheduler.type is 'WanPipeline', which is no scheduler of diffusers"
    ):
        changed_scheduler(scheduler, {"type": "WanPipeline"})


def test_loading_writes_no_progress_bars_to_a_log(settings, capsys):
    load_pipeline(settings(), CPU)
    assert capsys.readouterr() == ("", "")


def test_errors_come_before_the_weights_are_read(settings, tmp_path):
    said = []
    with pytest.raises(ValueError, match="pipeline.call.video_length is no argument of WanPipeline"):
        load_pipeline(settings(call={"video_length": 5}), CPU, said.append)
    with pytest.raises(FileNotFoundError, match="holds no pipeline: expected a folder with model_index.json"):
        load_pipeline(settings(from_pretrained=str(tmp_path)), CPU, said.append)
    (tmp_path / "model_index.json").write_text('{"_class_name": "LaterPipeline"}')
    with pytest.raises(ValueError, match="is a LaterPipeline, which diffusers .* lacks; upgrade diffusers"):
        load_pipeline(settings(from_pretrained=str(tmp_path)), CPU, said.append)
    assert said == []
    load_pipeline(settings(), CPU, said.append)
    assert len(said) == 1 and said[0].startswith("loading the pipeline from ")
