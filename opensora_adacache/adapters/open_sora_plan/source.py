"""Imports the classes of Open-Sora-Plan 1.1.0 from a folder with its source, on current diffusers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

MODELS = "opensora.models.diffusion.latte.modeling_latte"
PIPELINE = "opensora.sample.pipeline_videogen"
VAE = "opensora.models.ae.videobase.causal_vae"
NOT_RUN = ("opensora.models.ae", "opensora.models.ae.videobase")
"""Packages around the VAE whose own code imports every autoencoder and trainer, with what these need."""
GONE = "LORA_ATTENTION_PROCESSORS"
"""A name that Open-Sora-Plan imports and never uses, and that diffusers no longer has."""


def import_latte_t2v(source: str | Path) -> type[nn.Module]:
    """Return the class LatteT2V from a source tree of Open-Sora-Plan 1.1.0.

    Raises:
        ValueError: the folder holds no such tree, or another package called `opensora` is imported already.
    """
    return _import(Path(source), MODELS).LatteT2V


def import_pipeline(source: str | Path) -> type:
    """Return the class VideoGenPipeline from a source tree; see `import_latte_t2v`."""
    return _import(Path(source), PIPELINE).VideoGenPipeline


def import_vae(source: str | Path) -> type[nn.Module]:
    """Return the class CausalVAEModelWrapper from a source tree; see `import_latte_t2v`.

    Only the modules that the VAE uses are imported. They need pytorch-lightning.
    """
    source = Path(source)
    _import(source, MODELS)  # refuses a wrong source before anything is put in its place
    for name in NOT_RUN:
        if name not in sys.modules:
            package = ModuleType(name)
            package.__path__ = [str(source.resolve().joinpath(*name.split(".")))]
            sys.modules[name] = package
    return _import(source, VAE).CausalVAEModelWrapper


def _import(source: Path, name: str) -> ModuleType:
    path = source.joinpath(*name.split(".")).with_suffix(".py").resolve()
    if not (path.is_file() or path.with_suffix("").is_dir()):
        raise ValueError(f"'{source}' has no {path.name}; pass a source tree of Open-Sora-Plan v1.1.0")
    imported = sys.modules.get("opensora")
    if imported is not None and source.resolve() not in Path(str(imported.__file__)).resolve().parents:
        raise ValueError(
            f"another package called opensora is imported, from {imported.__file__}: use Open-Sora-Plan in a process "
            "of its own"
        )
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    with _name_that_is_gone():
        return importlib.import_module(name)


@contextmanager
def _name_that_is_gone() -> Iterator[None]:
    from diffusers.models import attention_processor

    if hasattr(attention_processor, GONE):
        yield
        return
    setattr(attention_processor, GONE, ())
    try:
        yield
    finally:
        delattr(attention_processor, GONE)
