"""Fixtures shared by the tests: the reference vectors and the small reference model."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import pytest
import torch
from safetensors.torch import load_file

from opensora_adacache.models import STDiT3, STDiT3Config

hypothesis.settings.register_profile("default", deadline=None)  # no test asserts a time
hypothesis.settings.load_profile("default")

DATA = Path(__file__).parent / "data"


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
    from opensora_adacache.shapes.tokenizer import build_tokenizer

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
