"""Runs of the calibration prompts on our STDiT3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import Tensor

from opensora_adacache.adapters import apply_cache
from opensora_adacache.adapters.recorder import play_back, record_outputs, record_probe, record_stack
from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.replay import Recording
from opensora_adacache.caching.trace import StepRecord
from opensora_adacache.calibration.products import Products, ResidualProducts
from opensora_adacache.calibration.runs import CalibrationRuns, RecordedRun
from opensora_adacache.calibration.sensitivities import Sensitivities, record_sensitivities
from opensora_adacache.calibration.step_costs import StepMeasurements
from opensora_adacache.config.settings import OpenSoraConfig
from opensora_adacache.costs.run import step_lengths
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.loading import LoadedModels
from opensora_adacache.presets.identity import ModelIdentity, identity_of_stdit3


class STDiT3Runs(CalibrationRuns):
    """The models of a run config and the videos to calibrate on.

    Args:
        config: config of the run. Its cache is ignored.
        models: loaded models, with the features of the jobs' texts.
        jobs: videos to make, in one batch if each video decides for itself.
        on_run: function to call with the seconds and the number of videos of each batch.
    """

    def __init__(
        self,
        config: OpenSoraConfig,
        models: LoadedModels,
        jobs: Sequence[VideoJob],
        on_run: Callable[[float, int], Any] = lambda seconds, num_videos: None,
    ) -> None:
        super().__init__(config.scheduler.num_sampling_steps, jobs)
        self.config = config
        self.models = models
        self.on_run = on_run

    @property
    def identity(self) -> ModelIdentity:
        return identity_of_stdit3(self.models.transformer.config)

    @cached_property
    def measurements(self) -> list[StepMeasurements]:  # type: ignore[override]
        """The cost of skipping steps, for each uncached video."""
        found = []
        for job in self.jobs:
            measured = StepMeasurements(max_gap=self.longest_gap)
            with record_stack(self.models.transformer, measured.observe):
                self.denoise(None, [job])
            found.append(measured)
        return found

    @cached_property
    def sensitivities(self) -> list[Sensitivities]:  # type: ignore[override]
        """The sensitivities of the residual, for each uncached video."""
        found = []
        for job in self.jobs:
            with record_sensitivities(self.models.transformer) as measured:
                self.denoise(None, [job])
            found.append(measured)
        return found

    @cached_property
    def products(self) -> list[Products]:  # type: ignore[override]
        """The inner products between the residuals of all steps, for each uncached video."""
        found = []
        for job in self.jobs:
            measured = ResidualProducts()
            with record_stack(self.models.transformer, measured.observe):
                self.denoise(None, [job])
            found.append(measured.matrix())
        return found

    @property
    def step_lengths(self) -> dict[int, float]:
        """Step → its length, as a fraction of the whole range."""
        return step_lengths(self.config)

    def denoise(
        self, cache: CacheConfig | None, jobs: Sequence[VideoJob] | None = None
    ) -> tuple[Tensor, list[list[StepRecord]]]:
        """Return the latents and traces of some jobs (None means all). Each video decides for itself."""
        if cache is not None:
            cache = replace(cache, decision="sample")
        pipeline = self.models.pipeline(replace(self.config, cache=cache))
        begin = time.perf_counter()
        result = pipeline.denoise(jobs or self.jobs, self.models.features)
        self.on_run(time.perf_counter() - begin, len(jobs or self.jobs))
        return result

    def record(self, cache: CacheConfig | None, jobs: Sequence[VideoJob]) -> RecordedRun:
        """Make some videos and record the model's outputs.

        One decision for the batch, so that there is one trace, whose errors are those of all videos together.
        """
        with record_outputs(self.models.transformer) as outputs:
            if cache is None:
                return RecordedRun(self.denoise(None, jobs)[0], [], outputs)
            with apply_cache(self.models.transformer, cache, self.num_steps) as session:
                latents, _ = self.denoise(None, jobs)
        return RecordedRun(latents, session.traces, outputs)

    def denoise_from(self, step: int, cache: CacheConfig, outputs: Sequence[Any], jobs: Sequence[VideoJob]) -> Tensor:
        """Return the latents of videos that replay recorded outputs before `step` and use the cache from there on."""
        with self._from(step, cache, outputs):
            return self.denoise(None, jobs)[0]

    def record_from(
        self, step: int, cache: CacheConfig, outputs: Sequence[Any], jobs: Sequence[VideoJob]
    ) -> RecordedRun:
        """Make the videos of `denoise_from` and record the model's outputs, those that are replayed too; no traces."""
        with self._from(step, cache, outputs), record_outputs(self.models.transformer) as all_outputs:
            return RecordedRun(self.denoise(None, jobs)[0], [], all_outputs)

    @contextmanager
    def _from(self, step: int, cache: CacheConfig, outputs: Sequence[Any]) -> Iterator[None]:
        """Replay recorded outputs before `step` and use the cache from there on."""
        with (
            apply_cache(self.models.transformer, cache, self.num_steps - step + 1),
            play_back(self.models.transformer, outputs[: step - 1]),
        ):
            yield

    def record_probe(self, cache: AdaCacheConfig) -> list[list[Recording]]:
        """Return for each job the recording of the probe, which holds both guidance branches."""
        recordings = []
        for job in self.jobs:
            with record_probe(self.models.transformer, cache) as recorder:
                self.denoise(None, [job])
            recordings.append([recorder.recording()])
        return recordings

    def frames(self, cache: CacheConfig | None) -> list[Tensor]:
        """Return the frames [3, F, H, W] in -1..1 of each job."""
        pipeline = self.models.pipeline(self.config)
        return [pipeline.decode(z).clamp(-1, 1) for z in self.denoise(cache)[0]]
