"""Runs of the calibration prompts on one model, and their measurements, each made once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

from torch import Tensor

from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.policies.dpcache import LONGEST_INTERVAL_FRACTION
from opensora_adacache.caching.replay import Recording
from opensora_adacache.caching.trace import StepRecord, work_done
from opensora_adacache.calibration.products import Products
from opensora_adacache.calibration.sensitivities import Sensitivities
from opensora_adacache.calibration.step_costs import StepMeasurements
from opensora_adacache.metrics.quality import psnr
from opensora_adacache.presets.identity import ModelIdentity


@dataclass(frozen=True)
class RecordedRun:
    """Runs of which every output of the model was recorded.

    Attributes:
        latents: final latents of the jobs, [jobs, …].
        traces: traces of all jobs and guidance branches.
        outputs: what the model returned, for `CalibrationRuns.denoise_from` and `CalibrationRuns.record_from`.
    """

    latents: Tensor = field(repr=False)
    traces: list[list[StepRecord]]
    outputs: Sequence[Any] = field(repr=False)


class CalibrationRuns(ABC):
    """A model and the videos to calibrate on.

    Args:
        num_steps: number of steps n of a run.
        jobs: videos to make.
    """

    def __init__(self, num_steps: int, jobs: Sequence[Any]) -> None:
        self.num_steps = num_steps
        self.jobs = list(jobs)
        self._mean_steps: dict[str, float] = {}
        self._mean_psnr: dict[str, float] = {}

    @property
    @abstractmethod
    def identity(self) -> ModelIdentity:
        """What the model is recognised by."""

    def allowed(self, cache: CacheConfig) -> CacheConfig:
        """Return the settings without what the sampler of these runs does not allow."""
        return cache

    def fixed_steps(self, cache: CacheConfig) -> tuple[int, ...] | None:
        """Return the computed steps of settings that fix them for these runs, or None."""
        return cache.fixed_steps(self.num_steps)

    @abstractmethod
    def denoise(
        self, cache: CacheConfig | None, jobs: Sequence[Any] | None = None
    ) -> tuple[Tensor, list[list[StepRecord]]]:
        """Return the latents and traces of some jobs (None means all). Each video decides for itself."""

    @abstractmethod
    def record(self, cache: CacheConfig | None, jobs: Sequence[Any]) -> RecordedRun:
        """Make the videos of some jobs, which decide together, and record the model's outputs."""

    @abstractmethod
    def denoise_from(self, step: int, cache: CacheConfig, outputs: Sequence[Any], jobs: Sequence[Any]) -> Tensor:
        """Return the latents of videos that replay recorded outputs before `step` and use the cache from there on."""

    @abstractmethod
    def record_from(self, step: int, cache: CacheConfig, outputs: Sequence[Any], jobs: Sequence[Any]) -> RecordedRun:
        """Make the videos of `denoise_from` and record the model's outputs, those that are replayed too; no traces."""

    @abstractmethod
    def record_probe(self, cache: AdaCacheConfig) -> list[list[Recording]]:
        """Return for each job the recordings of the probe in an uncached run, one for each guidance branch."""

    @abstractmethod
    def frames(self, cache: CacheConfig | None) -> list[Tensor]:
        """Return the frames [3, F, H, W] in -1..1 of each job."""

    @property
    def measurements(self) -> list[StepMeasurements]:
        """The cost of skipping steps, for each uncached video.

        Raises:
            ValueError: it cannot be measured on this kind of model.
        """
        raise ValueError("this policy is planned from measurements that need an STDiT3, which a pipeline does not have")

    @property
    def sensitivities(self) -> list[Sensitivities]:
        """The sensitivities of the residual, for each uncached video.

        Raises:
            ValueError: they cannot be measured on this kind of model.
        """
        raise ValueError("sensitivities are measured on an STDiT3, which a pipeline does not have")

    @property
    def products(self) -> list[Products]:
        """The inner products between the residuals of all steps, for each uncached video.

        Raises:
            ValueError: they cannot be measured on this kind of model.
        """
        raise ValueError("residuals of all steps are measured on an STDiT3, which a pipeline does not have")

    @property
    def step_lengths(self) -> dict[int, float]:
        """Step → its length, as a fraction of the whole range; known where `measurements` are."""
        raise NotImplementedError

    @property
    def longest_gap(self) -> int:
        """The longest interval between computed steps to measure, which is the one that DPCache plans with."""
        return max(int(LONGEST_INTERVAL_FRACTION * self.num_steps), 2)

    def mean_steps(self, cache: CacheConfig) -> float:
        """Return the mean number of computed steps over the jobs' videos."""
        fixed = self.fixed_steps(cache)
        if fixed is not None:
            return len(fixed)
        if repr(cache) not in self._mean_steps:  # searches for several speedups try the same settings
            _, traces = self.denoise(cache)
            self._mean_steps[repr(cache)] = fmean(work_done(trace) for trace in traces)
        return self._mean_steps[repr(cache)]

    def mean_psnr(self, cache: CacheConfig) -> float:
        """Return the mean PSNR in dB of the jobs' videos against the uncached ones."""
        if repr(cache) not in self._mean_psnr:
            pairs = zip(self.frames(cache), self._uncached_frames, strict=True)
            self._mean_psnr[repr(cache)] = fmean(psnr(one, other) for one, other in pairs)
        return self._mean_psnr[repr(cache)]

    @cached_property
    def _uncached_frames(self) -> list[Tensor]:
        return self.frames(None)
