"""Load the models of any run: those of Open-Sora or a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opensora_adacache.config.pipeline import PipelineConfig
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.generation.clip import RunModels
from opensora_adacache.generation.jobs import VideoJob

if TYPE_CHECKING:
    import torch

    from opensora_adacache.caching.team import Team


def load_run(
    config: RunConfig,
    jobs: Sequence[VideoJob],
    device: torch.device | None = None,
    *,
    batch_by_batch: bool = False,
    say: Callable[[str], object] = lambda line: None,
    team: Team | None = None,
) -> RunModels:
    """Load the models that a run needs. Raises the errors of `load_models` or of `load_pipeline`.

    Args:
        config: config of the run.
        jobs: all jobs whose videos these models will make.
        device: device for the models. None is CUDA if available, else the CPU.
        batch_by_batch: whether texts are encoded batch by batch, unless the config frees the text encoder first.
        say: function that is called with one line before each model is loaded.
        team: the processes that make a video together. None is this process alone.
    """
    if isinstance(config, OpenSoraConfig):
        from opensora_adacache.generation import loading

        texts = [text for job in jobs for text in job.texts]
        keep = batch_by_batch and not config.text_encoder.offload
        return loading.load_models(config, texts, device, keep_text_encoder=keep, say=say, team=team)
    if isinstance(config, PipelineConfig):
        from opensora_adacache.generation.diffusers.loading import load_pipeline

        return load_pipeline(config.pipeline, device, say)
    raise TypeError(f"expected an OpenSoraConfig or a PipelineConfig, got {type(config).__name__}")
