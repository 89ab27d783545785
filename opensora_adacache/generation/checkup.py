"""What this machine has and what configs need, as tables: nothing is loaded or downloaded."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

import torch

from opensora_adacache.config import load_config
from opensora_adacache.config.paths import shipped_configs
from opensora_adacache.config.pipeline import PipelineConfig, PipelineSettings
from opensora_adacache.config.settings import ModelSettings, OpenSoraConfig, RunConfig, TextEncoderSettings, VaeSettings
from opensora_adacache.errors.shown import one_line
from opensora_adacache.generation.loading import format_bytes
from opensora_adacache.generation.memory import physical_memory
from opensora_adacache.models.checkpoint import HubOptions, weight_bytes
from opensora_adacache.models.layers import ATTENTION_BACKENDS, check_attention_backend

# Package -> what it is for. The first ones are required.
PACKAGES = {
    "opensora-adacache": "",
    "torch": "",
    "diffusers": "",
    "transformers": "",
    "av": "",
    "safetensors": "",
    "huggingface_hub": "",
    "accelerate": "offload, device maps",
    "torchao": "model.quantize",
    "xformers": "attention_backend='xformers'",
    "gradio": "the web app",
    "matplotlib": "plots of a benchmark",
    "torchmetrics": "LPIPS",
    "cache-dit": "comparison with its caches",
}
NUM_LISTED = 3

Loaded = ModelSettings | VaeSettings | TextEncoderSettings | PipelineSettings


@dataclass(frozen=True)
class Section:
    """A table with a title; `failed` are the configs that were asked for and cannot be read."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    failed: Sequence[str] = ()


def check_up(configs: Iterable[str] = ()) -> Iterator[Section]:
    """Yield the tables one by one.

    Args:
        configs: paths or names of run configs to check; none checks all that ship with the package.
    """
    yield Section("Versions", ("package", "version", "needed for"), list(_versions()))
    yield Section("Machine", ("what", "found"), list(_machine()))
    yield Section("Attention backends", ("backend", "state"), list(_attention_backends()))
    rows = list(_weights(list(configs)))
    failed = [needed_by for source, *_, needed_by in rows if not source]
    yield Section("Weights", ("weights", "part", "on this machine", "needed by"), rows, failed)


def _versions() -> Iterator[tuple[str, str, str]]:
    yield "Python", platform.python_version(), "everything"
    for name, purpose in PACKAGES.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "missing" if purpose else "MISSING"
        yield name, version, purpose or "everything"


def _machine() -> Iterator[tuple[str, str]]:
    yield "system", platform.platform()
    yield "processors", str(len(os.sched_getaffinity(0)))
    yield "memory", format_bytes(physical_memory())
    yield "free disk space here", format_bytes(shutil.disk_usage(".").free)
    if not torch.cuda.is_available():
        build = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch has no CUDA"
        yield "GPUs", f"none ({build}); runs use the processor"
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield f"GPU {index}", f"{name}, {format_bytes(free)} of {format_bytes(total)} free"


def _attention_backends() -> Iterator[tuple[str, str]]:
    for name in ATTENTION_BACKENDS:
        try:
            check_attention_backend(name)
        except ValueError as error:
            yield name, one_line(error)
        else:
            yield name, "works"


def _weights(names: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row per checkpoint, with the configs that need it, and one without a source per name that fails."""
    users: dict[tuple[str, str], list[str]] = {}
    hubs: dict[str, HubOptions] = {}
    for name in names or shipped_configs():
        try:
            config = load_config(name, {"prompt": ["any"]})
        except (ValueError, OSError) as error:
            if names:  # the shipped ones that fail are benchmarks, which have no models of their own
                yield "", "", one_line(error), name
            continue
        for part, settings in _loaded(config):
            users.setdefault((settings.from_pretrained, part), []).append(name)
            hubs[settings.from_pretrained] = HubOptions(
                settings.revision, settings.cache_dir, settings.local_files_only
            )
    for (source, part), configs in users.items():
        size = weight_bytes(source, hubs[source])
        state = "missing: the first run downloads it" if size is None else format_bytes(size)
        more = f" and {len(configs) - NUM_LISTED} more" if len(configs) > NUM_LISTED else ""
        yield source, part, state, ", ".join(configs[:NUM_LISTED]) + more


def _loaded(
    config: RunConfig,
) -> list[tuple[str, Loaded]]:
    """Return what a run loads, with its name."""
    if isinstance(config, PipelineConfig):
        return [("pipeline", config.pipeline)]
    assert isinstance(config, OpenSoraConfig)
    return [("transformer", config.model), ("VAE", config.vae), ("text encoder", config.text_encoder)]
