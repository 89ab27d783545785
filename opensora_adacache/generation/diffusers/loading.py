"""Load a diffusers pipeline as a config describes it: dtypes, scheduler, offloading, tiling."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from opensora_adacache.config.pipeline import OpenSoraPlanSettings, PipelineConfig, PipelineSettings
from opensora_adacache.config.pipeline_class import check_call, hub_options, pipeline_class
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.errors.closest import closest
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import one_line
from opensora_adacache.generation.diffusers.dtypes import dtype_argument
from opensora_adacache.generation.diffusers.maker import PipelineMaker
from opensora_adacache.generation.diffusers.open_sora_plan import check_open_sora_plan, load_open_sora_plan
from opensora_adacache.generation.dtypes import DTYPES
from opensora_adacache.generation.jobs import VideoJob


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline on its device.

    Attributes:
        pipeline: the pipeline, whose progress bar is off.
        settings: what it was loaded from.
        device: device that it computes on.
        loading_seconds: seconds spent reading the weights.
        encoding_seconds: 0, because a pipeline encodes texts in each call.
    """

    pipeline: Any = field(repr=False)
    settings: PipelineSettings
    device: torch.device
    loading_seconds: float
    encoding_seconds: float = 0.0

    def maker(self, config: RunConfig) -> PipelineMaker:
        """Return a maker of clips for a run of this pipeline, which may have a different cache, call and prompts."""
        if not isinstance(config, PipelineConfig):
            raise TypeError(f"expected a PipelineConfig, got {type(config).__name__}")
        check_call(type(self.pipeline), config.pipeline.call)
        return PipelineMaker(config, self.pipeline, self.device)

    def warnings_of(self, job: VideoJob) -> list[str]:
        """Return no line: only the pipeline knows how much it reads of a text."""
        return []


def load_pipeline(
    settings: PipelineSettings,
    device: torch.device | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> LoadedPipeline:
    """Load a pipeline.

    Args:
        settings: section ``pipeline`` of a config.
        device: device to compute on. None is CUDA if available, else the CPU.
        say: function that is called with one line before the weights are loaded.

    Raises:
        OSError: there is no such pipeline, or it cannot be downloaded from the hub.
        ValueError: the pipeline does not take the arguments of the call, its scheduler cannot be changed like that, or
            the settings need accelerate, which is not installed.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    begin = time.perf_counter()
    _check_accelerate(settings, device)
    load: Callable[[], Any]
    if isinstance(settings, OpenSoraPlanSettings):
        check_open_sora_plan(settings)  # whose errors come before the weights are read
        load = partial(load_open_sora_plan, settings)
    else:
        pipeline_class(settings)  # the same
        load = partial(_load_diffusers, settings)
    say(f"loading the pipeline from '{settings.from_pretrained}'")
    with _bars_on_terminals_only():
        pipeline = load()
    if settings.scheduler:
        pipeline.scheduler = changed_scheduler(pipeline.scheduler, settings.scheduler)
    if settings.vae_tiling:
        pipeline.vae.enable_tiling()
    if settings.device_map is None:
        _place(pipeline, settings.offload, device)
    pipeline.set_progress_bar_config(disable=True)
    return LoadedPipeline(pipeline, settings, device, time.perf_counter() - begin)


def _load_diffusers(settings: PipelineSettings) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(
        settings.from_pretrained,
        variant=settings.variant,
        device_map=settings.device_map,
        **{dtype_argument(): _dtypes(settings.torch_dtype)},
        **hub_options(settings),
    )


def changed_scheduler(scheduler: Any, changes: Mapping[str, Any]) -> Any:
    """Return a scheduler with changes of its config, and of its class if they have a ``type``.

    Raises:
        ConfigError: diffusers has no such scheduler, or it has no such settings.
    """
    import diffusers

    changes = dict(changes)
    name = changes.pop("type", type(scheduler).__name__)
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ConfigError(f"pipeline.scheduler.type is '{name}', which is no scheduler of diffusers")
    known = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    for key in changes:
        if key not in known:
            raise ConfigError(f"pipeline.scheduler.{key} is no setting of {name}{closest(key, known)}")
    try:
        return kind.from_config(scheduler.config, **changes)  # type: ignore[attr-defined]
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"pipeline.scheduler: {one_line(error)}") from None


@contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    """Keep the progress bars of loading, which would fill a log file, off anything but a terminal."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = [] if sys.stderr.isatty() else [of_diffusers, of_transformers]
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def _dtypes(dtype: str | Mapping[str, str]) -> Any:
    if isinstance(dtype, str):
        return DTYPES[dtype]
    return {name: DTYPES[each] for name, each in dtype.items()}


def _check_accelerate(settings: PipelineSettings, device: torch.device) -> None:
    """Raise ConfigError if the settings need accelerate, which is not installed."""
    from diffusers.utils import is_accelerate_available

    offload = settings.offload if device.type != "cpu" else None
    key = "device_map" if settings.device_map else "offload" if offload else None
    if key is not None and not is_accelerate_available():
        raise ConfigError(f"pipeline.{key} needs accelerate: run pip install accelerate, or set {key}=None")


def _place(pipeline: Any, offload: str | None, device: torch.device) -> None:
    """Move a pipeline to its device, or let its weights move while it runs."""
    if offload is None or device.type == "cpu":
        pipeline.to(device)
    elif offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(onload_device=device, offload_type="leaf_level", use_stream=True)
