"""Runs of the calibration prompts on a diffusers pipeline."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

import torch
from torch import Tensor, nn

from opensora_adacache.adapters import apply_cache
from opensora_adacache.adapters.bases import base_among
from opensora_adacache.adapters.branches import BranchedSession
from opensora_adacache.adapters.diffusers.experts import StepsOfExperts, transformers_of
from opensora_adacache.adapters.diffusers.experts_session import ExpertsSession
from opensora_adacache.adapters.diffusers.pipeline import check_corrector
from opensora_adacache.adapters.recorder import moved, play_back, record_branches, record_calls
from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.replay import Recording
from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.calibration.runs import CalibrationRuns, RecordedRun
from opensora_adacache.config.pipeline import PipelineConfig
from opensora_adacache.errors.family import AdaCacheWarning
from opensora_adacache.generation.diffusers.loading import LoadedPipeline
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.presets.identity import ModelIdentity, identity_of_pipeline


@dataclass(frozen=True)
class RecordedCalls:
    """The outputs of a pipeline's transformer over one run, on the CPU.

    Attributes:
        steps: for each step, what the calls of its guidance branches returned.
    """

    steps: list[list[Any]] = field(repr=False)

    @classmethod
    def of(cls, calls: Sequence[tuple[float, Any]], num_steps: int) -> RecordedCalls:
        """Return the calls of a run, the same number for each step.

        Where guidance is on for some steps only, timesteps tell the steps apart. Half precision, in which HunyuanVideo
        gets its timesteps, cannot distinguish those of neighbouring steps of a long run.

        Args:
            calls: timestep and output of each call, in order.
            num_steps: n.

        Raises:
            ValueError: the calls of two steps cannot be told apart.
        """
        number = max(len(calls) // num_steps, 1)
        steps = [calls[i : i + number] for i in range(0, len(calls), number)]
        if len(steps) != num_steps or any(len({timestep for timestep, _ in step}) > 1 for step in steps):
            steps = [list(step) for _, step in groupby(calls, key=itemgetter(0))]
        if len(steps) != num_steps:
            raise ValueError(
                f"a run of {num_steps} steps called the model {len(calls)} times, at {len(steps)} timesteps, so it is "
                "unknown which calls belong to a step: switch guidance on for all steps, or take fewer steps"
            )
        return cls([[output for _, output in step] for step in steps])


class PipelineRuns(CalibrationRuns):
    """A loaded pipeline and the videos to calibrate on, each made by a call of its own.

    Args:
        config: config of the run. Its cache is ignored.
        models: the loaded pipeline.
        jobs: videos to make.
        on_run: function to call with the seconds and the number of videos of each call.
    """

    def __init__(
        self,
        config: PipelineConfig,
        models: LoadedPipeline,
        jobs: Sequence[VideoJob],
        on_run: Callable[[float, int], Any] = lambda seconds, num_videos: None,
    ) -> None:
        super().__init__(config.num_sampling_steps, jobs)
        scheduler = models.pipeline.scheduler
        if base_among(scheduler, ("PNDMScheduler",)) or getattr(scheduler, "order", 1) > 1:
            raise ValueError(
                f"calibration takes one call of the model per step, and {type(scheduler).__name__} makes more: choose "
                "another with pipeline.scheduler=dict(type=…), such as 'FlowMatchEulerDiscreteScheduler' or "
                "'DDIMScheduler'"
            )
        self.maker = models.maker(replace(config, cache=None))
        self.pipeline = models.pipeline
        self.transformers = transformers_of(models.pipeline)
        self.device = models.device
        self.on_run = on_run

    @property
    def identity(self) -> ModelIdentity:
        transformer: Any = next(iter(self.transformers.values()))
        # a pipeline that its own loader put together, such as Open-Sora-Plan's, does not know its name
        name = self.pipeline.name_or_path or self.maker.config.pipeline.from_pretrained
        return identity_of_pipeline(name, type(transformer).__name__, transformer.config)

    def allowed(self, cache: CacheConfig) -> CacheConfig:
        """Return the settings, without their corrector and with a warning if the scheduler does not allow one."""
        if not cache.corrector:
            return cache
        try:
            check_corrector(self.pipeline, cache)
        except ValueError as error:
            warnings.warn(f"calibrated with corrector=0: {error}", AdaCacheWarning, stacklevel=2)
            return replace(cast(Any, cache), corrector=0.0)
        return cache

    def fixed_steps(self, cache: CacheConfig) -> tuple[int, ...] | None:
        """Return the schedule of settings that have a fixed one; two transformers have one each, which runs show."""
        return super().fixed_steps(cache) if len(self.transformers) == 1 else None

    def denoise(
        self, cache: CacheConfig | None, jobs: Sequence[VideoJob] | None = None
    ) -> tuple[Tensor, list[list[StepRecord]]]:
        """Return the latents of some jobs (None means all), and the traces of all their guidance branches."""
        latents, traces = [], []
        with self._attached(cache) as session:
            for job in self.jobs if jobs is None else jobs:
                latents.append(self._make(job, "latent"))
                traces += _traces(session)
        return torch.cat(latents), traces

    def record(self, cache: CacheConfig | None, jobs: Sequence[VideoJob]) -> RecordedRun:
        """Make some videos and record the outputs of the transformer.

        Raises:
            ValueError: the pipeline has two transformers.
        """
        latents, traces, outputs, model = [], [], [], self._only_transformer()
        for job in jobs:
            with self._attached(cache) as session, record_calls(model) as calls:
                latents.append(self._make(job, "latent"))
            traces += _traces(session)
            outputs.append(RecordedCalls.of(calls, self.num_steps))
        return RecordedRun(torch.cat(latents), traces, outputs)

    def denoise_from(
        self, step: int, cache: CacheConfig, outputs: Sequence[RecordedCalls], jobs: Sequence[VideoJob]
    ) -> Tensor:
        """Return the latents of videos that replay recorded outputs before `step` and use the cache from there on."""
        latents = []
        for job, recorded in zip(jobs, outputs, strict=True):
            with self._from(step, cache, recorded):
                latents.append(self._make(job, "latent"))
        return torch.cat(latents)

    def record_from(
        self, step: int, cache: CacheConfig, outputs: Sequence[RecordedCalls], jobs: Sequence[VideoJob]
    ) -> RecordedRun:
        """Make the videos of `denoise_from` and record the model's outputs, those that are replayed too; no traces."""
        latents, all_outputs, model = [], [], self._only_transformer()
        for job, recorded in zip(jobs, outputs, strict=True):
            with self._from(step, cache, recorded), record_calls(model) as calls:
                latents.append(self._make(job, "latent"))
            all_outputs.append(RecordedCalls.of(calls, self.num_steps))
        return RecordedRun(torch.cat(latents), [], all_outputs)

    def record_probe(self, cache: AdaCacheConfig) -> list[list[Recording]]:
        """Return for each job the recordings of the probe in an uncached run, for each transformer and branch."""
        recordings = []
        for job in self.jobs:
            steps = self._steps_by_transformer()
            with ExitStack() as stack:
                watched = [
                    stack.enter_context(record_branches(transformer, cache, steps[name]))
                    for name, transformer in self.transformers.items()
                ]
                self._make(job, "latent")
            recordings.append([recorder.recording() for recorders in watched for recorder in recorders.values()])
        return recordings

    def frames(self, cache: CacheConfig | None) -> list[Tensor]:
        """Return the frames [3, F, H, W] in -1..1 of each job."""
        with self._attached(cache):
            videos = [self._make(job, "pt") for job in self.jobs]
        return [2 * video[0].movedim(1, 0).cpu() - 1 for video in videos]

    def _only_transformer(self) -> nn.Module:
        """Return the transformer.

        Raises:
            ValueError: there are two.
        """
        if len(self.transformers) > 1:
            raise ValueError(
                f"this policy is measured with recorded outputs of one transformer, and {type(self.pipeline).__name__} "
                "has two: calibrate AdaCache or a policy with a threshold or an interval"
            )
        return next(iter(self.transformers.values()))

    @contextmanager
    def _from(self, step: int, cache: CacheConfig, recorded: RecordedCalls) -> Iterator[None]:
        """Replay recorded outputs before `step` and use the cache from there on."""
        first = [moved(output, self.device) for calls in recorded.steps[: step - 1] for output in calls]
        with (
            apply_cache(self.pipeline, cache, self.num_steps - step + 1),
            play_back(self._only_transformer(), first),
        ):
            yield

    def _steps_by_transformer(self) -> dict[str, int | Callable[[], int]]:
        """Return the number of steps of each transformer, or what counts them in a call of the pipeline."""
        if len(self.transformers) == 1:
            return dict.fromkeys(self.transformers, self.num_steps)
        counted = StepsOfExperts(self.pipeline)
        return {name: partial(counted.of, name) for name in self.transformers}

    def _attached(self, cache: CacheConfig | None) -> AbstractContextManager[BranchedSession | ExpertsSession | None]:
        if cache is None:
            return nullcontext()
        return cast("BranchedSession | ExpertsSession", apply_cache(self.pipeline, cache))

    def _make(self, job: VideoJob, output_type: str) -> Tensor:
        """Return the latents [1, …], or the video [1, F, 3, H, W] in 0..1, of a job, in float32.

        Squares of small differences would be 0 in half precision.
        """
        begin = time.perf_counter()
        made = self.pipeline(**self.maker.arguments([job]), output_type=output_type)[0]
        self.on_run(time.perf_counter() - begin, 1)
        return made.float()


def _traces(session: BranchedSession | ExpertsSession | None) -> list[list[StepRecord]]:
    """Return the traces of the latest run on all guidance branches; none without a cache."""
    if session is None:
        return []
    return [trace for branch in session.branches.values() for trace in branch.traces]
