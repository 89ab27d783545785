"""Configs of diffusers pipelines: what they hold, flags of Open-Sora's configs, refused values."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensora_adacache.config import OpenSoraConfig, PipelineConfig, load_config

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = "latte cogvideox wan wan_2_2 hunyuan_video hunyuan_video_1_5 ltx_video ltx_2 mochi open_sora_plan".split()
RUN = """
save_fps = 16
prompt = ["a red circle"]
pipeline = dict(from_pretrained="owner/model", call=dict(num_inference_steps=50, num_frames=49, height=480, width=720))
"""


@pytest.fixture
def load(tmp_path):
    def load(text=RUN, **overrides):
        path = tmp_path / "run.py"
        path.write_text(text)
        return load_config(path, {key.replace("__", "."): value for key, value in overrides.items()})

    return load


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_model_has_three_configs(folder):
    plain, cached, with_motion = (
        load_config(CONFIGS / folder / f"{name}.py") for name in ("sample", "sample_adacache", "sample_adacache_moreg")
    )
    assert isinstance(plain, PipelineConfig) and plain.cache is None
    assert cached.cache is not None and cached.cache.moreg is None
    assert with_motion.cache.moreg is not None and with_motion.pipeline == cached.pipeline == plain.pipeline
    assert str(plain.save_dir) == f"samples/{folder}/gallery/sample" and len(plain.prompts) > 1


def test_size_and_steps_are_those_of_the_call(load):
    config = load()
    assert isinstance(config, PipelineConfig) and not isinstance(config, OpenSoraConfig)
    assert (config.image_size, config.num_frames, config.num_sampling_steps, config.num_steps) == (
        (480, 720),
        49,
        50,
        50,
    )
    assert load(RUN.replace("height=480, ", "")).image_size is None
    latte = load(RUN.replace("num_frames=49", "video_length=1"))
    assert latte.num_frames == 1 and latte.makes_images


def test_flags_of_other_configs_reach_the_call(load):
    config = load(num_sampling_steps=30, scheduler__cfg_scale=4.0, num_frames="17", image_size=[240, 320], dtype="fp16")
    assert config.pipeline.call == {
        "num_inference_steps": 30,
        "num_frames": 17,
        "height": 240,
        "width": 320,
        "guidance_scale": 4.0,
    }
    assert config.pipeline.torch_dtype == "fp16"
    assert load(model__from_pretrained="other/model").pipeline.from_pretrained == "other/model"
    latte = load(RUN.replace("num_frames=49", "video_length=16"), num_frames=8)
    assert latte.pipeline.call["video_length"] == 8 and "num_frames" not in latte.pipeline.call


def test_the_launcher_sets_only_keys_that_such_runs_have(tmp_path):
    path = tmp_path / "run.py"
    path.write_text(RUN)
    prompts = tmp_path / "two.txt"
    prompts.write_text("one\ntwo\n")
    config = load_config(path, {"prompt_path": str(prompts)}, defaults={"reference_path": "samples", "num_sample": 2})
    assert config.prompts == ("one", "two") and config.num_sample == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (RUN + "aes = 7.0\n", "unknown key 'aes' in the config"),
        (RUN.replace("num_inference_steps=50, ", ""), "pipeline: call needs num_inference_steps"),
        (RUN.replace("=50", "=0"), "pipeline: call.num_inference_steps must be at least 1"),
        (RUN.replace("height=480", "prompt='a'"), "pipeline: call must not set 'prompt', which the run sets"),
        (
            RUN.replace("height=480", "sigmas=object()"),
            r"pipeline: call.sigmas must be a finite number, a string, a list or a",
        ),
        (RUN.replace("height=480", "guidance_scale=float('nan')"), "call.guidance_scale must be a finite number,"),
        (RUN.replace("call=", "scheduler=dict(shift=[1e999]), call="), "scheduler.shift must be a finite number,"),
        (RUN.replace("call=", "torch_dtype='half', call="), "pipeline.torch_dtype must be"),
        (RUN.replace("call=", "offload='cpu', call="), "pipeline.offload is 'cpu'.*expected one of model, group"),
        (RUN.replace("owner/model", "no-such-folder"), "pipeline.from_pretrained 'no-such-folder' does not exist"),
        (RUN.replace("save_fps = 16", ""), "the config needs 'save_fps'"),
    ],
)
def test_refused(load, text, told):
    with pytest.raises((ValueError, OSError), match=told) as caught:
        load(text)
    assert "\n" not in str(caught.value)


def test_images_are_refused(tmp_path):
    path = tmp_path / "run.py"
    path.write_text(RUN)
    with pytest.raises(ValueError, match="runs a diffusers pipeline, which needs no first frames"):
        load_config(path, image=True)
