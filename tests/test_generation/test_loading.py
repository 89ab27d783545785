"""Loading: the checkpoint must match the config."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opensora_adacache.config import load_config
from opensora_adacache.config.settings import ModelSettings, TextEncoderSettings, VaeSettings
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.generation.loading import (
    describe_source,
    format_bytes,
    load_models,
    load_text_encoder,
    load_transformer,
    load_vae,
)
from opensora_adacache.models import STDiT3, STDiT3Config

CPU = torch.device("cpu")


def test_loads_in_the_wanted_type(tiny_checkpoints):
    settings = ModelSettings(str(tiny_checkpoints / "transformer"), "STDiT3", enable_flash_attn=False)
    assert settings.backend == "no-flash"
    assert load_transformer(settings, torch.bfloat16, CPU).dtype == torch.bfloat16
    vae = load_vae(VaeSettings(str(tiny_checkpoints / "vae"), micro_frame_size=8), torch.bfloat16, CPU)
    assert (vae.dtype, vae.micro_frame_size) == (torch.bfloat16, 8)
    assert vae.spatial_vae.tile_size is None
    name = str(tiny_checkpoints / "text_encoder")
    for own, expected in (("fp32", torch.float32), (None, torch.bfloat16)):
        encoder = load_text_encoder(TextEncoderSettings(name, dtype=own), torch.bfloat16, CPU)
        assert encoder.dtype == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [({"qk_norm": False}, "has qk_norm True, but the config wants False"), ({"type": "STDiT3-XL/2"}, "has depth 4")],
)
def test_another_structure_is_an_error(tiny_checkpoints, options, message):
    settings = ModelSettings(str(tiny_checkpoints / "transformer"), **{"type": "STDiT3", **options})
    with pytest.raises(ValueError, match=message):
        load_transformer(settings, torch.float32, CPU)


def test_bare_weights_take_their_structure_from_the_type(tmp_path, monkeypatch):
    small = {"depth": 1, "hidden_size": 16, "num_heads": 2}
    monkeypatch.setitem(load_transformer.__globals__["VARIANTS"], "STDiT3-XL/2", small)
    torch.save({"ema": STDiT3(STDiT3Config(**small)).state_dict()}, tmp_path / "ema.pt")
    model = load_transformer(ModelSettings(str(tmp_path / "ema.pt")), torch.float32, CPU)
    assert model.config.depth == 1
    with pytest.raises(ValueError, match="no config.json beside it"):
        load_transformer(ModelSettings(str(tmp_path / "ema.pt"), "STDiT3"), torch.float32, CPU)


def configure(tmp_path, tiny_config, **overrides):
    path = tmp_path / "tiny.py"
    path.write_text(tiny_config)
    values = {"prompt": ["a red circle"], "save_dir": str(tmp_path / "out"), **overrides}
    return load_config(path, values)


def test_every_model_is_announced_with_its_source_and_size(tmp_path, tiny_config, tiny_checkpoints):
    said = []
    load_models(configure(tmp_path, tiny_config), [], CPU, say=said.append)
    for line, (name, folder) in zip(
        said, (("text encoder", "text_encoder"), ("transformer", "transformer"), ("VAE", "vae")), strict=True
    ):
        size = (tiny_checkpoints / folder / "model.safetensors").stat().st_size
        assert line == f"loading the {name} from '{tiny_checkpoints}/{folder}' ({format_bytes(size)})"


def test_a_checkpoint_that_is_not_here_has_no_size(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert describe_source(VaeSettings("nobody/nothing")) == "'nobody/nothing' (it is downloaded first)"
    (tmp_path / "bare.pt").write_bytes(b"x" * 1234)
    assert describe_source(VaeSettings(str(tmp_path / "bare.pt"))) == f"'{tmp_path}/bare.pt' (1.23 kB)"


def test_the_text_encoder_is_freed_or_kept_with_the_same_features(tmp_path, tiny_config):
    config = configure(tmp_path, tiny_config)
    freed = load_models(config, ["a red circle"], CPU)
    kept = load_models(config, ["a red circle"], CPU, keep_text_encoder=True)
    assert freed.text_encoder.model is None and kept.text_encoder.model is not None
    assert freed.encoding_seconds > 0 and freed.loading_seconds > 0
    for models in (freed, kept):
        assert torch.equal(models.features_of(["a red circle"]).null(1), freed.features.null(1))
    first, second = (models.features_of(["a red circle"]).encode(["a red circle"]) for models in (freed, kept))
    assert torch.equal(first["y"], second["y"]) and torch.equal(first["mask"], second["mask"])


def test_the_end_of_a_text_that_is_too_long_is_told(tmp_path, tiny_config):
    config = configure(tmp_path, tiny_config, **{"text_encoder.offload": True})  # 12 tokens with the end of the text
    fits, too_long = "a red circle moves left", "a red circle and a blue square move slowly up and down and left"
    models = load_models(config, [fits, too_long], CPU)
    assert list(models.cut_texts) == [too_long]
    assert models.cut_texts[too_long] == "down and left"


def quantized_names(module):
    return {name for name, parameter in module.named_parameters() if type(parameter) is not nn.Parameter}


def test_configs_quantize_the_blocks_and_the_text_encoder(tmp_path, tiny_config):
    pytest.importorskip("torchao")
    options = {"model.quantize": "int8", "text_encoder.quantize": "int8-weights"}
    plain, small = (
        load_models(configure(tmp_path, tiny_config, **changes), [], CPU, keep_text_encoder=True)
        for changes in ({}, options)
    )
    names = quantized_names(small.transformer)
    assert names and all(name.startswith(("spatial_blocks.", "temporal_blocks.")) for name in names)
    linears = {f"{n}.weight" for n, layer in small.text_encoder.model.named_modules() if isinstance(layer, nn.Linear)}
    assert quantized_names(small.text_encoder.model) == linears != set()
    assert quantized_names(plain.transformer) == quantized_names(plain.text_encoder.model) == set()
    first, second = (models.features_of(["a red circle"]).encode(["a red circle"])["y"] for models in (plain, small))
    assert 0 < (first - second).norm() < 0.02 * first.norm()


def test_what_cannot_be_quantized_is_said_before_anything_is_loaded(tmp_path, tiny_config):
    pytest.importorskip("torchao")
    said = []
    with pytest.raises(ConfigError, match="quantize='float8' needs dtype='bf16'"):
        load_models(configure(tmp_path, tiny_config, **{"model.quantize": "float8"}), [], CPU, say=said.append)
    assert said == []
    with pytest.raises(ConfigError, match="text_encoder.quantize"):
        configure(tmp_path, tiny_config, **{"text_encoder.quantize": "int8"})


def test_the_vae_is_tiled_and_laid_out_as_the_config_says(tiny_checkpoints):
    vae = load_vae(VaeSettings(str(tiny_checkpoints / "vae"), tiling=True, channels_last=True), torch.float32, CPU)
    assert vae.spatial_vae.tile_size == 64
    weight = vae.spatial_vae.module.decoder.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
