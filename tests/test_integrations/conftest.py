"""The node for ComfyUI, loaded as ComfyUI loads it: by the path of its folder."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"


@contextmanager
def loaded_node():
    """Import the folder with whatever `comfy` is there, and forget it again."""
    name = str(FOLDER).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, FOLDER / "__init__.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
            del sys.modules[known]


@pytest.fixture(scope="session")
def load_node():
    return loaded_node
