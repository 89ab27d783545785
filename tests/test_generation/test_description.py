"""Descriptions of videos: derived from the config, compared with records of this and earlier versions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from opensora_adacache.config import load_config
from opensora_adacache.generation.description import NOT_IN_PIXELS, describe, find_difference, first_difference
from opensora_adacache.generation.jobs import plan_jobs

CACHE = {"cache__type": "AdaCache", "cache__codebook": {0.1: 2, 1.0: 1}, "cache__moreg": {"steps": [2, 6]}}


@pytest.fixture
def config(tmp_path, tiny_config):
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)

    def configure(**overrides):
        values = {"prompt": ["a red circle", "a blue square"], "save_dir": str(tmp_path / "out"), **overrides}
        return load_config(path, {key.replace("__", "."): value for key, value in values.items()})

    return configure


def test_description_tells_settings_that_change_pixels(config):
    cache = CACHE
    base = config(**cache)
    job = plan_jobs(base)[0]
    described = describe(job, base)
    assert first_difference(described, describe(plan_jobs(config(**cache))[0], base)) is None

    def difference(**changes):
        changed = config(**{**cache, **changes})
        return first_difference(described, describe(plan_jobs(changed)[0], changed))

    assert difference(seed=8) == "seed was 7 and is 8 now"
    assert difference(scheduler__cfg_scale=2.0) == "scheduler.cfg_scale was 7.0 and is 2.0 now"
    assert difference(cache__codebook={0.1: 3, 1.0: 1}) == "cache.codebook.0.1 was 2 and is 3 now"
    assert difference(cache__moreg={"steps": [2, 5]}) == "cache.moreg.steps was [2, 6] and is [2, 5] now"
    assert difference(aes=7).startswith("texts was")
    assert difference(verbose=2) is difference(save_dir="elsewhere") is difference(cache__decision="batch")
    assert difference(parallel__guidance=2) is difference(parallel__sequence=2) is None and "parallel" not in described
    assert dataclasses.replace(base, batch_size=2).decides_per_batch


def test_description_holds_the_batch_size_only_where_a_batch_decides(config):
    cache = {"cache__codebook": {1.0: 1}}
    for decision, listed in (("batch", True), ("sample", False)):
        changed = config(**cache, cache__decision=decision, batch_size=2)
        assert ("batch_size" in describe(plan_jobs(changed)[0], changed)["cache"]) is listed


def dotted_fields(section, prefix=""):
    """Yield the dotted name of every field of a config, with its section and value."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from dotted_fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, section, value


def other_than(value):
    """Return a different value, of the same type if possible."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, Path):
        return value / "x"
    if isinstance(value, tuple | dict):
        return type(value)()
    return f"{value}x"


@pytest.fixture
def of_pipeline(tmp_path):
    """The config of a run of a diffusers pipeline."""
    path = tmp_path / "pipeline.py"
    path.write_text('save_fps = 8\nprompt = "a red circle"\npipeline = dict(from_pretrained="a/b")\n')
    changes = {"call": {"num_inference_steps": 8}, "torch_dtype": {"default": "bf16"}, "scheduler": {"shift": 2.0}}
    cache = {"cache.type": "Static", "cache.interval": 2, "cache.decision": "sample"}
    return load_config(path, {**cache, **{f"pipeline.{key}": value for key, value in changes.items()}})


@pytest.mark.parametrize("kind", ["Open-Sora", "pipeline"])
def test_every_field_counts_unless_it_is_listed(kind, config, of_pipeline):
    """Fields are changed without their checks, so that future fields are covered too."""
    base = config(**CACHE, cache__decision="sample", loop=2, num_frames=34) if kind == "Open-Sora" else of_pipeline
    job = plan_jobs(base)[0]
    before, tried = describe(job, base), []
    for name, section, value in list(dotted_fields(base)):
        object.__setattr__(section, name.rpartition(".")[2], other_than(value))
        counts = describe(job, base) != before
        object.__setattr__(section, name.rpartition(".")[2], value)
        assert counts == (name not in NOT_IN_PIXELS), name
        tried.append(name)
    assert len(tried) > (45 if kind == "Open-Sora" else 20)


def test_the_list_names_fields_that_exist(config, of_pipeline):
    known = {name for base in (config(**CACHE), of_pipeline) for name, _, _ in dotted_fields(base)}
    assert [name for name in NOT_IN_PIXELS if name not in known] == []


def as_recorded(job, settings):
    """Return a description as read back from a record."""
    return json.loads(json.dumps(describe(job, settings)))


def test_a_field_that_did_not_exist_yet_counts_as_its_default(config):
    base = config(**CACHE)
    job = plan_jobs(base)[0]
    old = as_recorded(job, base)
    for section, name in ((old, "watermark"), (old["vae"], "spatial_vae"), (old["cache"], "metric")):
        del section[name]
    assert find_difference(old, 2, job, base) is None
    changed = config(**CACHE, watermark=True)
    assert find_difference(old, 2, job, changed) == "watermark was False and is True now"
    assert find_difference(old, 2, job, config()) == "cache was " + repr(old["cache"]) + " and is None now"


# As written by the package before records had versions.
VERSION_1 = {
    "texts": ["a red circle"],
    "seed": 7,
    "sample": 0,
    "references": [],
    "masks": [],
    "model": {"type": "STDiT3", "from_pretrained": "hpcai-tech/OpenSora-STDiT-v3"},
    "vae": {"from_pretrained": "hpcai-tech/OpenSora-VAE-v1.2", "micro_frame_size": 17},
    "text_encoder": {"from_pretrained": "DeepFloyd/t5-v1_1-xxl", "model_max_length": 12, "dtype": "fp32"},
    "scheduler": {
        "type": "rflow",
        "num_sampling_steps": 8,
        "num_timesteps": 1000,
        "cfg_scale": 7.0,
        "use_timestep_transform": True,
    },
    "cache": {
        "type": "AdaCache",
        "codebook": {"0.1": 2, "1": 1},
        "cache_res": None,
        "cache_loc": None,
        "moreg": {"strides": [1], "steps": [2, 6], "center": 0.385, "power": 8, "divisor": 1, "gradient_weight": 10},
        "granularity": "stack",
        "decision": "batch",
        "metric": "l1",
        "forecast": 0,
        "corrector": 0.0,
    },
    "image_size": [64, 64],
    "num_frames": 17,
    "fps": 8,
    "save_fps": 8,
    "dtype": "fp32",
    "loop": 1,
    "align": None,
    "watermark": False,
}


def test_records_of_version_1_are_compared_by_what_they_listed(config):
    names = {"model": "hpcai-tech/OpenSora-STDiT-v3", "vae": "hpcai-tech/OpenSora-VAE-v1.2"}
    names |= {"text_encoder": "DeepFloyd/t5-v1_1-xxl"}
    base = config(**CACHE, **{f"{section}__from_pretrained": name for section, name in names.items()})
    job, old = plan_jobs(base)[0], json.loads(json.dumps(VERSION_1))
    assert find_difference(old, 1, job, base) is None
    assert find_difference({**old, "fps": 9}, 1, job, base) == "fps was 9 and is 8 now"
    # version 1 did not say where the spatial part of the VAE came from
    assert (
        find_difference(old, 1, job, dataclasses.replace(base, vae=dataclasses.replace(base.vae, spatial_vae="x")))
        is None
    )
    for section in ("model", "text_encoder"):  # settings that came later did not change its pixels
        quantized = dataclasses.replace(
            base, **{section: dataclasses.replace(getattr(base, section), quantize="int8-weights")}
        )
        assert find_difference(old, 1, job, quantized) == f"{section}.quantize was None and is 'int8-weights' now"
    old["cache"]["codebook"]["1"] = 2
    assert find_difference(old, 1, job, base) == "cache.codebook.1 was 2 and is 1 now"
