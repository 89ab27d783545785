"""Loading: what the config says must be what the checkpoint is."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.config.settings import ModelSettings, TextEncoderSettings, VaeSettings
from opensora_adacache.generation.loading import load_text_encoder, load_transformer, load_vae
from opensora_adacache.models import STDiT3, STDiT3Config

CPU = torch.device("cpu")


def test_loads_in_the_wanted_type(tiny_checkpoints):
    settings = ModelSettings(str(tiny_checkpoints / "transformer"), "STDiT3", enable_flash_attn=False)
    assert settings.backend == "no-flash"
    assert load_transformer(settings, torch.bfloat16, CPU).dtype == torch.bfloat16
    vae = load_vae(VaeSettings(str(tiny_checkpoints / "vae"), micro_frame_size=8), torch.bfloat16, CPU)
    assert (vae.dtype, vae.micro_frame_size) == (torch.bfloat16, 8)
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
