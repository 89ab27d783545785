"""Runs of the calibration prompts on a diffusers pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from opensora_adacache.adapters import apply_cache
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.recorder import moved, play_back, record_branches, record_calls
from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.replay import Recording
from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.calibration.runs import CalibrationRuns, RecordedRun
from opensora_adacache.presets.identity import ModelIdentity, identity_of_pipeline


@dataclass(frozen=True)
class PipelineJob:
    """A video to make with a pipeline.

    Attributes:
        prompt: its text.
        seed: seed of its noise.
    """

    prompt: str
    seed: int


@dataclass(frozen=True)
class RecordedCalls:
    """The outputs of a pipeline's transformer over one run, on the CPU.

    Attributes:
        steps: for each step, what the calls of its guidance branches returned.
    """

    steps: list[list[Any]] = field(repr=False)


class PipelineRuns(CalibrationRuns):
    """A loaded pipeline and the videos to calibrate on, each made by a call of its own.

    Args:
        pipeline: the pipeline.
        jobs: videos to make.
        num_steps: number of steps n, the pipeline's num_inference_steps.
        call: extra arguments of each call.
        on_run: function to call with the seconds of each call.
    """

    def __init__(
        self,
        pipeline: Any,
        jobs: Sequence[PipelineJob],
        num_steps: int,
        call: Mapping[str, Any],
        on_run: Callable[[float], Any] = lambda seconds: None,
    ) -> None:
        super().__init__(num_steps, jobs)
        self.pipeline = pipeline
        self.call = call
        self.on_run = on_run

    @property
    def identity(self) -> ModelIdentity:
        transformer = self.pipeline.transformer
        return identity_of_pipeline(self.pipeline.name_or_path or "", type(transformer).__name__, transformer.config)

    def denoise(
        self, cache: CacheConfig | None, jobs: Sequence[PipelineJob] | None = None
    ) -> tuple[Tensor, list[list[StepRecord]]]:
        """Return the latents of some jobs (None means all), and the traces of all their guidance branches."""
        latents, traces = [], []
        with nullcontext() if cache is None else apply_cache(self.pipeline, cache) as session:
            for job in self.jobs if jobs is None else jobs:
                latents.append(self._make(job, "latent"))
                if session is not None:
                    branches = cast(BranchedSession, session).branches.values()
                    traces += [trace for branch in branches for trace in branch.traces]
        return torch.cat(latents), traces

    def record(self, cache: CacheConfig | None, jobs: Sequence[PipelineJob]) -> RecordedRun:
        """Make some videos with settings that compute every step, and record the outputs of the transformer."""
        latents, traces, outputs = [], [], []
        for job in jobs:
            with record_calls(self.pipeline.transformer) as calls:
                made, traces_of_job = self.denoise(cache, [job])
            latents.append(made)
            traces += traces_of_job
            steps: dict[float, list[Any]] = {}
            for timestep, output in calls:
                steps.setdefault(timestep, []).append(output)
            outputs.append(RecordedCalls(list(steps.values())))
        return RecordedRun(torch.cat(latents), traces, outputs)

    def denoise_from(
        self, step: int, cache: CacheConfig, outputs: Sequence[RecordedCalls], jobs: Sequence[PipelineJob]
    ) -> Tensor:
        """Return the latents of runs that replay recorded outputs before `step` and use the cache from there on."""
        latents, model = [], self.pipeline.transformer
        for job, recorded in zip(jobs, outputs, strict=True):
            device = self.pipeline._execution_device
            first = [moved(output, device) for calls in recorded.steps[: step - 1] for output in calls]
            with apply_cache(self.pipeline, cache, self.num_steps - step + 1), play_back(model, first):
                latents.append(self._make(job, "latent"))
        return torch.cat(latents)

    def record_probe(self, cache: AdaCacheConfig) -> list[list[Recording]]:
        """Return for each job the recordings of the probe in an uncached run, one for each guidance branch."""
        recordings = []
        for job in self.jobs:
            with record_branches(self.pipeline.transformer, cache, self.num_steps) as recorders:
                self._make(job, "latent")
            recordings.append([recorder.recording() for recorder in recorders.values()])
        return recordings

    def frames(self, cache: CacheConfig | None) -> list[Tensor]:
        """Return the frames [3, F, H, W] in -1..1 of each job."""
        with nullcontext() if cache is None else apply_cache(self.pipeline, cache):
            videos = [self._make(job, "pt") for job in self.jobs]
        return [2 * video[0].movedim(1, 0).float().cpu() - 1 for video in videos]

    def _make(self, job: PipelineJob, output_type: str) -> Tensor:
        """Return the latents [1, …], or the video [1, F, 3, H, W] in 0..1, of a job."""
        generator = torch.Generator(self.pipeline._execution_device).manual_seed(job.seed)
        arguments = {**self.call, "output_type": output_type, "num_inference_steps": self.num_steps}
        begin = time.perf_counter()
        made = self.pipeline(job.prompt, generator=generator, **arguments)[0]
        self.on_run(time.perf_counter() - begin)
        return made
