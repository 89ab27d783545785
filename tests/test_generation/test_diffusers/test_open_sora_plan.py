"""Open-Sora-Plan 1.1 by config: its own source, all parts random and on disk, each run in a process of its own.

Runs if OPEN_SORA_PLAN_SRC names a folder with its source at v1.1.0, and pytorch-lightning is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opensora_adacache.config import load_config
from opensora_adacache.config.pipeline import OpenSoraPlanSettings
from opensora_adacache.costs.pipeline import count_pipeline_step
from opensora_adacache.errors.family import UncountedError
from opensora_adacache.generation.diffusers.loading import load_pipeline
from opensora_adacache.generation.records import read_record
from opensora_adacache.media.reading import read_video

ROOT = Path(__file__).parents[3]
CALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 6}
# PNDM calls the model four times for each of the first three steps, so 6 steps are 15 calls.
CALLS = 15
CHECKPOINT = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from opensora_adacache.adapters.open_sora_plan.source import import_latte_t2v, import_vae
from opensora_adacache.testing.pipelines import make_pipeline

source, folder = sys.argv[1:]
torch.manual_seed(0)
transformer = import_latte_t2v(source)(
    num_attention_heads=2, attention_head_dim=16, num_layers=2, in_channels=4, out_channels=8, cross_attention_dim=32,
    caption_channels={channels}, sample_size=(4, 4), patch_size=2, video_length=2, norm_type="ada_norm_single",
    norm_elementwise_affine=False, attention_bias=True, attention_mode="math",
)
for parameter in transformer.parameters():
    parameter.data += 0.02 * torch.randn_like(parameter)
transformer.save_pretrained(folder + "/65x512x512")
import_vae(source)
from opensora.models.ae.videobase.causal_vae import CausalVAEModel
CausalVAEModel(
    hidden_size=32, hidden_size_mult=(1, 1, 1, 1), num_res_blocks=1, loss_type="torch.nn.Identity", loss_params={{}}
).save_pretrained(folder + "/vae")
parts = make_pipeline("latte").components
parts["tokenizer"].save_pretrained(folder + "/t5")
parts["text_encoder"].save_pretrained(folder + "/t5")
"""


def python(*arguments):
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def source():
    folder = os.environ.get("OPEN_SORA_PLAN_SRC")
    if not folder:
        pytest.skip("OPEN_SORA_PLAN_SRC names no folder with the source of Open-Sora-Plan 1.1.0")
    for package in ("peft", "pytorch_lightning"):
        pytest.importorskip(package)
    return folder


@pytest.fixture(scope="module")
def checkpoint(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_sora_plan")
    made = python("-c", CHECKPOINT.format(channels=16), source, folder)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def config(source, checkpoint, tmp_path):
    def config(name="run.py", **cache):
        path = tmp_path / name
        path.write_text(
            'save_fps = 8\nseed = 7\nprompt = ["a red circle", "a blue square"]\nverbose = 0\n'
            f'save_dir = "{tmp_path / Path(name).stem}"\ncache = {cache or None}\n'
            f'pipeline = dict(type="open_sora_plan", source="{source}", from_pretrained="{checkpoint}", '
            f'text_encoder="{checkpoint}/t5", torch_dtype="fp32", vae_tiling=True, call={CALL})\n'
        )
        return path

    return config


def sample(path):
    ran = python("scripts/inference.py", path)
    assert ran.returncode == 0, ran.stderr
    return load_config(path).save_dir


@pytest.mark.slow
def test_runs_by_config(config):
    """A codebook of ones is bit-identical to no cache; a larger rate skips calls; a second run makes nothing."""
    plain = sample(config("plain.py"))
    ones = sample(config("ones.py", codebook={1.0: 1}))
    cached = sample(config("cached.py", codebook={1e9: 2, 1e10: 1}, decision="sample"))
    videos = [read_video(folder / "sample_0000.mp4") for folder in (plain, ones, cached)]
    records = [read_record(folder / "sample_0000.json") for folder in (plain, ones, cached)]
    assert torch.equal(videos[0], videos[1]) and not torch.equal(videos[0], videos[2])
    assert [record.num_steps for record in records] == [CALLS] * 3
    schedule = "".join("#" if step["computed"] else "." for step in records[2].traces[0])
    assert schedule == "##.#.#.#.#.#.##" and records[2].computed_steps == schedule.count("#")
    before = (plain / "sample_0000.mp4").stat().st_mtime_ns
    sample(config("plain.py"))
    assert (plain / "sample_0000.mp4").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_comparison(config, tmp_path):
    config("plain.py")
    path = tmp_path / "compare.py"
    path.write_text(
        'run = "plain.py"\nmetrics = ("psnr", "ssim")\npaper = "open-sora-plan-1.1 (512x512, 65 frames, 150 steps)"\n'
        'settings = dict(fast=dict(title="AdaCache", paper="AdaCache-fast", cache=dict(codebook={1e9: 2, 1e10: 1})))\n'
    )
    ran = python("scripts/compare.py", path, "--out", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert "3283.6" in "".join(file.read_text() for file in (tmp_path / "out").glob("*.md"))


@pytest.mark.slow
def test_what_a_checkpoint_lacks_is_one_line(config, checkpoint):
    ran = python("scripts/inference.py", config(), "--cfg-options", "pipeline.transformer=221x512x512")
    assert ran.returncode != 0 and "Traceback" not in ran.stderr
    assert f"'{checkpoint}' has no 221x512x512/config.json: expected a checkpoint of Open-Sora-Plan 1.1" in ran.stderr


@pytest.mark.slow
def test_another_version_is_told(tmp_path):
    """The trees of other versions have the same modules; version 1.1.0 is the one that can merge keys."""
    modules = {
        "models/diffusion/latte/modeling_latte": "LatteT2V",
        "models/ae/videobase/causal_vae/__init__": "CausalVAEModelWrapper",
        "sample/pipeline_videogen": "VideoGenPipeline",
    }
    for name, kind in modules.items():
        path = tmp_path / "opensora" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"class {kind}:\n    def __init__(self, num_layers=1): ...\n")
    (tmp_path / "opensora" / "__init__.py").touch()
    path = tmp_path / "run.py"
    path.write_text(
        f'save_fps = 8\nprompt = "a"\nsave_dir = "{tmp_path}/out"\npipeline = dict(type="open_sora_plan", '
        f'source="{tmp_path}", from_pretrained="a/b", call=dict(num_inference_steps=6))\n'
    )
    ran = python("scripts/inference.py", path)
    assert ran.returncode != 0 and "Traceback" not in ran.stderr
    assert f"pipeline.source '{tmp_path}' is another version of Open-Sora-Plan: expected v1.1.0" in ran.stderr


def settings(**changes):
    return OpenSoraPlanSettings(**{"from_pretrained": "owner/model", "call": CALL, **changes})


def test_a_missing_source_is_told_before_anything_is_loaded(tmp_path):
    said = []
    with pytest.raises(ValueError, match=r"pipeline.source '.*none' does not exist: .* git clone --branch v1\.1\.0"):
        load_pipeline(settings(source=str(tmp_path / "none")), torch.device("cpu"), said.append)
    with pytest.raises(ValueError, match="pipeline.source: .* has no modeling_latte.py; pass a source tree"):
        load_pipeline(settings(source=str(tmp_path)), torch.device("cpu"), said.append)
    assert said == []


def test_refused_settings():
    with pytest.raises(ValueError, match="offload is not for Open-Sora-Plan"):
        settings(offload="model")
    with pytest.raises(UncountedError, match="the costs of Open-Sora-Plan are not counted"):
        count_pipeline_step(settings())


def test_the_type_decides_which_keys_there_are(tmp_path):
    path = tmp_path / "run.py"
    text = (
        'save_fps = 8\nprompt = "a"\n'
        'pipeline = dict(type="{}", from_pretrained="a/b", source="x", call=dict(num_inference_steps=6))\n'
    )
    path.write_text(text.format("open_sora_plan"))
    assert load_config(path, {"pipeline.source": "elsewhere"}).pipeline.source == "elsewhere"
    path.write_text(text.format("diffusers"))
    with pytest.raises(ValueError, match="unknown key 'pipeline.source'"):
        load_config(path)
    path.write_text(text.format("open_sora"))
    with pytest.raises(ValueError, match=r"pipeline.type is 'open_sora', did you mean 'open_sora_plan'\?"):
        load_config(path)
