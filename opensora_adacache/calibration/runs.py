"""Runs of the calibration prompts on one model, and their measurements, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import fmean
from typing import Any

from torch import Tensor

from opensora_adacache.adapters import apply_cache
from opensora_adacache.adapters.recorder import play_back, record_stack
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.policies.dpcache import LONGEST_INTERVAL_FRACTION
from opensora_adacache.caching.trace import StepRecord, computed_steps
from opensora_adacache.calibration.step_costs import StepMeasurements
from opensora_adacache.config.settings import OpenSoraConfig
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.loading import LoadedModels
from opensora_adacache.metrics.quality import psnr


class CalibrationRuns:
    """A model and the videos to calibrate on.

    Args:
        config: config of the run. Its cache is ignored.
        models: loaded models, with the features of the jobs' texts.
        jobs: videos to make, in one batch if each video decides for itself.
        on_run: function to call after each batch, for a progress bar.
    """

    def __init__(
        self,
        config: OpenSoraConfig,
        models: LoadedModels,
        jobs: Sequence[VideoJob],
        on_run: Callable[[], Any] = lambda: None,
    ) -> None:
        self.config = config
        self.models = models
        self.jobs = list(jobs)
        self.on_run = on_run
        self.num_steps = config.scheduler.num_sampling_steps
        self._mean_steps: dict[str, float] = {}

    @property
    def longest_gap(self) -> int:
        """The longest interval between computed steps to measure, which is the one that DPCache plans with."""
        return max(int(LONGEST_INTERVAL_FRACTION * self.num_steps), 2)

    @cached_property
    def measurements(self) -> list[StepMeasurements]:
        """The cost of skipping steps, for each uncached video."""
        found = []
        for job in self.jobs:
            measured = StepMeasurements(max_gap=self.longest_gap)
            with record_stack(self.models.transformer, measured.observe):
                self.denoise(None, [job])
            found.append(measured)
        return found

    def mean_steps(self, cache: CacheConfig) -> float:
        """Return the mean number of computed steps over the jobs' videos."""
        fixed = cache.fixed_steps(self.num_steps)
        if fixed is not None:
            return len(fixed)
        if repr(cache) not in self._mean_steps:  # searches for several speedups try the same settings
            _, traces = self.denoise(cache)
            self._mean_steps[repr(cache)] = fmean(len(computed_steps(trace)) for trace in traces)
        return self._mean_steps[repr(cache)]

    def mean_psnr(self, cache: CacheConfig) -> float:
        """Return the mean PSNR in dB of the jobs' videos against the uncached ones."""
        frames = self._decode(self.denoise(cache)[0])
        return fmean(psnr(one, other) for one, other in zip(frames, self._uncached_frames, strict=True))

    def denoise(
        self, cache: CacheConfig | None, jobs: Sequence[VideoJob] | None = None
    ) -> tuple[Tensor, list[list[StepRecord]]]:
        """Return the latents and traces of some jobs (None means all). Each video decides for itself."""
        if cache is not None:
            cache = replace(cache, decision="sample")
        pipeline = self.models.pipeline(replace(self.config, cache=cache))
        result = pipeline.denoise(jobs or self.jobs, self.models.features)
        self.on_run()
        return result

    def denoise_from(
        self, step: int, cache: CacheConfig, outputs: Sequence[Tensor], jobs: Sequence[VideoJob]
    ) -> Tensor:
        """Return the latents of runs that replay recorded outputs before `step` and use the cache from there on."""
        with (
            apply_cache(self.models.transformer, cache, self.num_steps - step + 1),
            play_back(self.models.transformer, outputs[: step - 1]),
        ):
            return self.denoise(None, jobs)[0]

    @cached_property
    def _uncached_frames(self) -> list[Tensor]:
        return self._decode(self.denoise(None)[0])

    def _decode(self, latents: Tensor) -> list[Tensor]:
        pipeline = self.models.pipeline(self.config)
        return [pipeline.decode(z).clamp(-1, 1) for z in latents]
