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
