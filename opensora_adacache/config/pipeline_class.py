"""Find the class of a diffusers pipeline without its weights, and check the arguments of its call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opensora_adacache.config.pipeline import PipelineSettings
from opensora_adacache.errors.closest import closest
from opensora_adacache.errors.family import ConfigError, MissingFileError

INDEX = "model_index.json"


def pipeline_class(settings: PipelineSettings) -> type[Any]:
    """Return the class of a pipeline, which its ``model_index.json`` names.

    Raises:
        OSError: the file does not exist, or cannot be downloaded from the hub.
        ConfigError: diffusers has no such class, or the class does not take the arguments of the call.
    """
    import diffusers

    name = read_index(settings)["_class_name"]
    kind = getattr(diffusers, name, None)
    if kind is None:
        raise ConfigError(
            f"'{settings.from_pretrained}' is a {name}, which diffusers {diffusers.__version__} "
            "lacks; upgrade diffusers"
        )
    check_call(kind, settings.call)
    return kind


def read_index(settings: PipelineSettings) -> dict[str, Any]:
    """Return the content of ``model_index.json``: the class of the pipeline and of its components.

    Raises:
        OSError: the file does not exist, or cannot be downloaded from the hub.
    """
    path = Path(settings.from_pretrained)
    if path.exists() and not (path / INDEX).is_file():
        raise MissingFileError(
            f"'{settings.from_pretrained}' holds no pipeline: expected a folder with {INDEX}, or a name on the hub"
        )
    from diffusers import DiffusionPipeline

    return dict(DiffusionPipeline.load_config(settings.from_pretrained, **hub_options(settings)))


def hub_options(settings: PipelineSettings) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that say how to take a pipeline from the hub."""
    return {name: getattr(settings, name) for name in ("revision", "cache_dir", "local_files_only")}


def check_call(kind: type[Any], call: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first argument that the call of a pipeline does not take."""
    known = inspect.signature(kind.__call__).parameters
    for name in call:
        if name not in known:
            raise ConfigError(f"pipeline.call.{name} is no argument of {kind.__name__}{closest(name, known)}")
