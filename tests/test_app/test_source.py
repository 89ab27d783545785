"""From the argument of the command to configs of runs."""

from __future__ import annotations

import json

import pytest

from opensora_adacache.app.requests import PairRequest
from opensora_adacache.app.source import PIPELINES, Source, find_run, job_of
from opensora_adacache.caching.policies.planned import StaticConfig
from opensora_adacache.config import load_config
from opensora_adacache.config.mask_strategy import parse_mask_strategy
from opensora_adacache.config.pipeline import PipelineConfig
from opensora_adacache.errors.family import ConfigError, MissingFileError


def test_the_two_runs_of_a_pair(tmp_path):
    source = Source("scenes/sample_adacache", {"seed": 3})
    assert source.takes_reference and source.config.cache is not None
    assert source.examples[0] == "a red circle stays still on a gray gradient background" and len(source.examples) == 5
    request = PairRequest("a blue square", "static", 2.0, 9)
    baseline = source.run(request, tmp_path, {"cache": None})
    cached = source.run(request, tmp_path, {"cache": {"type": "Static", "interval": 2}})
    own = source.run(request, tmp_path, {})
    assert (baseline.cache, cached.cache, own.cache) == (None, StaticConfig(interval=2), source.config.cache)
    assert baseline.prompts == ("a blue square",) and baseline.seed == 9 and baseline.mask_strategy == ("",)
    job = job_of(cached, "cached")
    assert (job.path, job.seed, job.references) == (tmp_path / "cached.mp4", 9, ())
    assert source.short_run().num_steps == 2


def test_a_reference_image_is_the_first_frame(tmp_path):
    (tmp_path / "reference.png").touch()
    request = PairRequest("a blue square", "static", 2.0, 9, tmp_path / "reference.png")
    job = job_of(Source("scenes/sample", {}).run(request, tmp_path, {}), "baseline")
    assert job.references == (tmp_path / "reference.png",) and list(job.masks) == parse_mask_strategy("0")


def test_the_text_encoder_stays():
    assert load_config("sample", {"prompt": ["a"]}).text_encoder.offload
    source = Source("sample", {})
    assert not source.config.text_encoder.offload
    assert source.examples and not any("{" in text or "|" in text for text in source.examples)


@pytest.mark.slow
def test_every_pipeline_has_a_config():
    import diffusers

    for kind, name in PIPELINES.items():
        assert hasattr(diffusers, kind)
        assert isinstance(load_config(name, {"prompt": ["a"]}), PipelineConfig)


def index(folder, kind):
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind, "_diffusers_version": "0.42.1"}))
    return str(folder)


@pytest.mark.slow
def test_a_folder_of_a_pipeline(tmp_path):
    source = Source(index(tmp_path, "WanPipeline"), {"pipeline.call.num_frames": 5})
    assert source.config.pipeline.from_pretrained == str(tmp_path)
    assert source.config.num_frames == 5 and source.config.save_fps == 16 and not source.takes_reference
    assert source.short_run().num_steps == 2
    with pytest.raises(ConfigError, match="is a StableDiffusionPipeline, which no config of this package describes"):
        find_run(index(tmp_path, "StableDiffusionPipeline"))


@pytest.mark.parametrize("name", ["nothing.py", "nothing/sample.yaml"])
def test_a_config_that_does_not_exist(name):
    with pytest.raises(MissingFileError):
        Source(name, {})


def test_a_folder_without_a_pipeline(tmp_path):
    with pytest.raises(MissingFileError, match="holds no pipeline"):
        find_run(str(tmp_path))


@pytest.mark.parametrize("name", ["nosuch", "", pytest.param("owner/gone", marks=pytest.mark.slow)])
def test_neither_a_config_nor_a_pipeline(name):
    """A name that the hub cannot know is refused at once, without asking it."""
    with pytest.raises(MissingFileError, match=f"'{name}' is neither a config nor a pipeline"):
        find_run(name)
