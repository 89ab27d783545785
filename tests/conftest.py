"""Fixtures shared by the tests: the reference vectors and the small reference model."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from safetensors.torch import load_file

from opensora_adacache.benchmark.description import ComparisonRecord, PaperRow, SettingRecord
from opensora_adacache.benchmark.results import ResultRow
from opensora_adacache.models import STDiT3, STDiT3Config

hypothesis.settings.register_profile("default", deadline=None)  # no test asserts a time
hypothesis.settings.load_profile("default")

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def calibrations(tmp_path_factory, monkeypatch) -> Path:
    """The folder of the user's own calibrations, another one for each test."""
    folder = tmp_path_factory.getbasetemp() / "calibrations" / uuid.uuid4().hex
    monkeypatch.setenv("OPENSORA_ADACACHE_CALIBRATIONS", str(folder))
    return folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of reference vectors."""
    return DATA


@pytest.fixture
def golden_model() -> STDiT3:
    """The small STDiT3 whose weights made the reference vectors."""
    config = STDiT3Config.from_dict(json.loads((DATA / "stdit3_config.json").read_text()))
    with torch.device("meta"):
        model = STDiT3(config)
    model.load_state_dict(load_file(DATA / "stdit3_weights.safetensors"), assign=True, strict=True)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small checkpoints in the published layout: transformer/, vae/, text_encoder/, tokenizer/.

    The transformer is that of the reference vectors; the others are random.
    """
    from transformers import T5Config, T5EncoderModel

    from opensora_adacache.models import OpenSoraVAE, T5TextEncoder
    from opensora_adacache.models.temporal_vae import TemporalVAEConfig
    from opensora_adacache.models.vae import OpenSoraVAEConfig
    from opensora_adacache.scenes.text import build_tokenizer

    folder = tmp_path_factory.mktemp("checkpoints")
    config = json.loads((DATA / "stdit3_config.json").read_text())
    model = STDiT3(STDiT3Config.from_dict(config))
    model.load_state_dict(load_file(DATA / "stdit3_weights.safetensors"))
    model.save_pretrained(folder / "transformer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        temporal = TemporalVAEConfig(filters=8, num_res_blocks=1, channel_multipliers=(1, 1, 1, 1), num_groups=4)
        vae = OpenSoraVAEConfig(temporal, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)
        OpenSoraVAE(vae).save_pretrained(folder / "vae")
        tokenizer = build_tokenizer()
        t5 = T5Config(
            vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4, dropout_rate=0.0
        )
        encoder = T5TextEncoder(T5EncoderModel(t5).eval(), tokenizer, config["model_max_length"])
        encoder.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_config(tiny_checkpoints: Path) -> str:
    """The text of a config that runs the small checkpoints: 64x64, 17 frames, 8 steps."""
    return f"""
image_size = (64, 64)
num_frames = 17
fps = 8
seed = 7
dtype = "fp32"
verbose = 0
model = dict(type="STDiT3", from_pretrained="{tiny_checkpoints}/transformer")
vae = dict(type="OpenSoraVAE_V1_2", from_pretrained="{tiny_checkpoints}/vae")
text_encoder = dict(type="t5", from_pretrained="{tiny_checkpoints}/text_encoder", model_max_length=12)
scheduler = dict(type="rflow", num_sampling_steps=8, cfg_scale=7.0, use_timestep_transform=True)
"""


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a family's small diffusers pipeline, which is written once."""
    from opensora_adacache.testing.pipelines import save_pipeline

    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = save_pipeline(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return folder


@pytest.fixture(scope="session")
def pipeline_config(pipeline_folder: Callable[[str], Path]) -> Callable[..., str]:
    """Returns the text of a config that runs a family's small pipeline: 32x32, 5 frames, 6 steps."""
    from opensora_adacache.testing.pipelines import call_arguments

    def text(name: str, **call: object) -> str:
        arguments = {**call_arguments(name), "num_inference_steps": 6, **call}
        del arguments["output_type"]
        return (
            f'save_fps = 8\nseed = 7\nverbose = 0\nprompt = ["a red circle", "a blue square", "a green triangle"]\n'
            f'pipeline = dict(from_pretrained="{pipeline_folder(name)}", torch_dtype="fp32", call={arguments})\n'
        )

    return text


@pytest.fixture
def write_comparison(tiny_config: str, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a comparison of those settings, of 8-step runs of two prompts."""

    def write(settings: str) -> Path:
        prompts = 'prompt = ["a red circle", "a blue square"]\n'
        (tmp_path / "run.py").write_text(f'{tiny_config}{prompts}save_dir = "{tmp_path}"\n')
        path = tmp_path / "compare.py"
        path.write_text(f'run = "run.py"\n{settings}')
        return path

    return write


@pytest.fixture(scope="session")
def make_row() -> Callable[..., ResultRow]:
    """Makes a row of a comparison, of an AdaCache video unless told otherwise."""

    def make(**values: object) -> ResultRow:
        row: dict = dict(policy="adacache", setting="adacache-fast", title="AdaCache & co", prompt="a red circle")
        row |= dict(index=0, seed=0, psnr=25.0, ssim=0.9, lpips=None, psnr_mp4=24.0, ssim_mp4=0.85, lpips_mp4=None)
        row |= dict(flicker=0.5, motion_error=0.1, latency_s=2.5, loop_s=2.0, tflops=3.0)
        row |= dict(computed_steps=3, num_steps=6, cache_bytes=1000, peak_memory_bytes=None, motion="still")
        row |= dict(checks={"colour": (1, 2)}, schedule="##...#", distances=(None, 0.3, None, None, None, 0.1))
        row |= dict(motions=(None, 1.0, None, None, None, 1.5))
        row |= values
        name = f"videos/{row['setting']}-{row['index']:04d}-{row['seed']}.mp4"
        return ResultRow(**{"video": name, **row})

    return make


@pytest.fixture(scope="session")
def make_baseline_row(make_row: Callable[..., ResultRow]) -> Callable[..., ResultRow]:
    """Makes a row of the baseline."""

    def make(**values: object) -> ResultRow:
        row: dict = dict(policy="baseline", setting="baseline", title="Baseline", schedule="######")
        row |= dict.fromkeys(("psnr", "ssim", "psnr_mp4", "ssim_mp4"))
        row |= dict(loop_s=4.0, latency_s=5.0, tflops=6.0, computed_steps=6, cache_bytes=0)
        row |= dict(distances=(None,) * 6, motions=(None,) * 6)
        return make_row(**row | values)

    return make


@pytest.fixture(scope="session")
def comparison() -> ComparisonRecord:
    """What a comparison of three settings, one of them an oracle, says of itself."""
    return ComparisonRecord(
        config="configs/scenes/compare.py",
        command="python scripts/compare.py configs/scenes/compare.py",
        machine="a laptop",
        date="2026-01-02",
        torch="2.13.0",
        num_prompts=3,
        num_seeds=1,
        title="Policies <compared>",
        settings=(
            SettingRecord("baseline", "Baseline", "baseline", paper="baseline"),
            SettingRecord("adacache-fast", "AdaCache & co", "adacache", paper="AdaCache-fast"),
            SettingRecord("oracle", "Δ_best", "oracle-video", oracle=True),
        ),
        paper="Table 1",
        paper_rows=(
            PaperRow("baseline", 79.22, None, None, None, 3230.24, 54.02, 1.0),
            PaperRow("PAB-fast", 76.95, 23.58, 0.1743, 0.822, 2558.25, 40.23, 1.34),
            PaperRow("AdaCache-fast", 79.39, 24.92, 0.0981, 0.8375, 1331.97, 24.16, 2.24),
        ),
        paper_source="arXiv 2411.02397v2",
        lpips_missing="no weights",
    )


@pytest.fixture(scope="session")
def rows(make_row: Callable[..., ResultRow], make_baseline_row: Callable[..., ResultRow]) -> list[ResultRow]:
    """Three prompts, one of each motion class, with every setting of `comparison`."""
    rows = []
    for index, (motion, prompt) in enumerate(
        (("still", "a red circle"), ("slow", "a <blue> square moves slowly"), ("fast", "a red square rushes by"))
    ):
        prompt_values = dict(index=index, motion=motion, prompt=prompt)
        oracle: dict = dict(policy="oracle-video", setting="oracle", title="Δ_best", schedule="#....#")
        # eight dB come before 24 unless numbers are sorted as texts
        oracle |= dict(psnr=8.0 + index, loop_s=1.0, computed_steps=2, tflops=2.0)
        rows.append(make_baseline_row(**prompt_values))
        rows.append(make_row(**prompt_values, psnr=24.0 + index))
        rows.append(make_row(**prompt_values, **oracle))
    return rows
