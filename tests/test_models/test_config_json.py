"""Structures from config.json: any content gives a model or a one-line error."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.errors.family import AdaCacheError, CheckpointError
from opensora_adacache.models import OpenSoraVAE, STDiT3, STDiT3Config, T5TextEncoder
from opensora_adacache.models.config_json import build_structure
from opensora_adacache.models.temporal_vae import TemporalVAEConfig
from opensora_adacache.models.vae import OpenSoraVAEConfig

ODD = [None, "x", 0, -1, 1.5, 10**12, 10**400, True, [], {}, [1, "x", 2], float("nan"), float("inf")]


def write_config(folder, changes):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **changes}))
    return folder


@pytest.fixture
def copied(tiny_checkpoints, tmp_path):
    def copy(name):
        return shutil.copytree(tiny_checkpoints / name, tmp_path / name)

    return copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": "x"}, r"depth in config.json must be a whole number in 1..1000, got 'x'"),
        ({"depth": 10**9}, r"depth in config.json must be a whole number in 1..1000, got 1000000000"),
        ({"hidden_size": 0}, r"hidden_size in config.json must be a whole number in 1..100000, got 0"),
        ({"num_heads": 0}, "num_heads in config.json"),
        ({"patch_size": 2}, "config.json: "),
        ({"patch_size": [1, 2]}, "transformer: "),
        ({"qk_norm": "no"}, "qk_norm in config.json must be true or false, got 'no'"),
        ({"mlp_ratio": "4"}, "mlp_ratio in config.json must be a finite number, got '4'"),
        ({"mlp_ratio": -1}, "transformer"),
    ],
)
def test_a_transformer_of_nonsense_is_one_line(copied, changes, message):
    folder = write_config(copied("transformer"), changes)
    with pytest.raises(CheckpointError, match=message) as error:
        STDiT3.from_pretrained(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vae_temporal": "x"}, "vae_temporal in config.json must be an object, got 'x'"),
        ({"vae_temporal": {"filters": "x"}}, "filters in config.json must be a whole number"),
        (
            {"vae_temporal": {"temporal_downsample": [1, 0, 1]}},
            "temporal_downsample in config.json must be true or false",
        ),
        ({"vae_2d": {"block_out_channels": [8, "x"]}}, "block_out_channels in config.json"),
        ({"shift": ["a"]}, "shift in config.json must be a finite number, got 'a'"),
        ({"scale": [1, 2]}, "expected 4 values of scale"),
    ],
)
def test_an_autoencoder_of_nonsense_is_one_line(copied, changes, message):
    with pytest.raises(CheckpointError, match=message) as error:
        OpenSoraVAE.from_pretrained(write_config(copied("vae"), changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{"d_model": "x"}, {"num_layers": None}, {"num_heads": 0}, {"d_kv": [1]}])
def test_a_text_encoder_of_nonsense_is_one_line(tiny_checkpoints, tmp_path, changes):
    folder = shutil.copytree(tiny_checkpoints, tmp_path / "all")
    write_config(folder / "text_encoder", changes)
    with pytest.raises(CheckpointError, match="text_encoder") as error:
        T5TextEncoder.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("structure", [STDiT3Config, TemporalVAEConfig, OpenSoraVAEConfig])
@given(data=st.data())
def test_any_values_give_a_structure_or_one_line(structure, data):
    names = [name for name in structure.__dataclass_fields__ if name != "temporal"]
    values = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(ODD) | st.integers(0, 64)))
    try:
        assert isinstance(build_structure(structure, values), structure)
    except AdaCacheError as error:
        assert len(str(error).splitlines()) == 1
