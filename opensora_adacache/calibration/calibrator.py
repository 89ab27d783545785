"""Find settings of any policy for a wanted speedup or a wanted PSNR, on one model and a few prompts.

Constants of the model (TeaCache's polynomial, MagCache's ratios) and planned schedules (LeMiCa, DPCache) come from
uncached videos; thresholds from a bisection over cached ones. AdaCache's codebook keeps its rates; its thresholds
share one factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import fmean
from typing import Any

from torch import Tensor

from opensora_adacache.adapters import apply_cache
from opensora_adacache.adapters.recorder import play_back, record_outputs, record_probe, record_stack
from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.forecast.config import ORDERS as FORECAST_ORDERS
from opensora_adacache.caching.forecast.config import ForecastCacheConfig, PlannedForecastConfig, first_steps
from opensora_adacache.caching.policies.dpcache import FIRST_STEPS, LONGEST_GAP_SHARE, DPCacheConfig
from opensora_adacache.caching.policies.lemica import LONGEST_GAP, LeMiCaConfig
from opensora_adacache.caching.policies.magcache import MagCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig, PlannedPolicy, StaticConfig
from opensora_adacache.caching.policies.taylorseer import TaylorSeerConfig
from opensora_adacache.caching.policies.teacache import TeaCacheConfig
from opensora_adacache.caching.registry import named_class
from opensora_adacache.caching.replay import Recording, record
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.calibration.forecast_profile import growth_profile, sensitivity_profile
from opensora_adacache.calibration.planning import plan_least_sum, plan_least_total, plan_least_worst
from opensora_adacache.calibration.results import Found
from opensora_adacache.calibration.search import (
    calibrate,
    fit_polynomial,
    mean_computed_steps,
    mean_ratios,
    scale_codebook,
    search,
)
from opensora_adacache.calibration.step_costs import StepMeasurements, forecast_costs, mean_costs, reuse_costs
from opensora_adacache.config.calibrated import read_setting
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.costs.run import step_lengths
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.loading import LoadedModels
from opensora_adacache.metrics.quality import psnr

PUBLISHED_FAST = "open_sora_1_2_30.json#adacache-fast"

# Prompts that LeMiCa's costs, and ForecastCache's profile, are measured on.
_SEGMENT_JOBS = 3
_PROFILE_JOBS = 8
# Runs that ForecastCache's growth is measured in.
_PROFILE_SPEEDUPS = (1.5, 2.0, 3.0)
# Thresholds and codebook factors that are tried: 2.3 % apart.
_GRID = [10 ** (exponent / 100) for exponent in range(-400, 201)]
# Tolerances of ForecastCache that are tried.
_TOLERANCES = [10 ** (exponent / 50) for exponent in range(-450, 101)]


class Calibrator:
    """A model and prompts to calibrate on.

    Args:
        config: of the run; its cache plays no part.
        models: loaded, with the features of the jobs' texts.
        jobs: videos to make, in one batch where videos decide for themselves.
        on_run: called after each batch, for a progress bar.
    """

    def __init__(
        self,
        config: RunConfig,
        models: LoadedModels,
        jobs: Sequence[VideoJob],
        on_run: Callable[[], Any] = lambda: None,
    ) -> None:
        self.config = config
        self.models = models
        self.jobs = list(jobs)
        self.on_run = on_run
        self.num_steps = config.scheduler.num_sampling_steps
        self._recordings: list[Recording] | None = None
        self._mean_steps: dict[str, float] = {}
        self._forecast_profiles: dict[tuple[int, float], tuple[tuple[float, ...], tuple[float, ...]]] = {}

    def for_speedup(self, cache: CacheConfig, speedup: float) -> Found:
        """Return the settings of a policy that compute n / speedup steps on average, as nearly as it can.

        AdaCache's schedules are replayed offline from the uncached videos; the other policies' videos are made.
        ForecastCache with a tolerance gets the one that takes so many steps on average, else a budget, with the order
        of the forecast that gives the better videos.
        """
        if isinstance(cache, AdaCacheConfig):
            codebook = calibrate(cache, self.recordings(cache), speedup)
            return Found(codebook, mean_computed_steps(codebook, self.recordings(cache)))
        if isinstance(cache, ForecastCacheConfig) and cache.tolerance is None:
            budget = replace(cache, computed_steps=None, speedup=speedup)
            budgets = [self.profiled(replace(budget, order=order)) for order in FORECAST_ORDERS]
            best = max(budgets, key=self.mean_psnr)
            return Found(best, best.budget(self.num_steps) or self.num_steps)
        if isinstance(cache, PlannedConfig):
            wanted, _ = search(self._planned_counts(cache), float, self.num_steps / speedup)
            return Found(self.plan(cache, wanted), wanted)
        found, steps = search(self.family(cache), self.mean_steps, self.num_steps / speedup, 1 / len(self.jobs))
        return Found(found, steps)

    def for_psnr(self, cache: CacheConfig, wanted: float) -> Found:
        """Return the settings of a policy whose videos have the wanted mean PSNR in dB to the uncached ones."""
        found, value = search(self.family(cache), self.mean_psnr, wanted)
        return Found(found, self.mean_steps(found), value)

    def family(self, cache: CacheConfig) -> list[CacheConfig]:
        """Return settings of a policy from the most computed steps to the fewest, with the constants of this model.

        Raises:
            ValueError: the policy has no knob to turn.
        """
        if isinstance(cache, AdaCacheConfig):
            return [replace(cache, codebook=scale_codebook(cache.codebook, factor)) for factor in _GRID]
        if isinstance(cache, StaticConfig | TaylorSeerConfig):
            return [replace(cache, interval=interval) for interval in range(1, self.num_steps // 2)]
        if isinstance(cache, PlannedConfig):
            return [self.plan(cache, num_computed) for num_computed in self._planned_counts(cache)]
        if isinstance(cache, ForecastCacheConfig) and cache.tolerance is not None:
            cache = self.profiled(cache)
            return [replace(cache, tolerance=float(f"{value:.4g}")) for value in _TOLERANCES]
        if isinstance(cache, ForecastCacheConfig):
            cache = replace(self.profiled(cache), speedup=None, computed_steps=self.num_steps)
            fewest = first_steps(self.num_steps)
            return [replace(cache, computed_steps=k) for k in range(self.num_steps, fewest - 1, -1)]
        if isinstance(cache, TeaCacheConfig):
            cache = replace(cache, coefficients=fit_polynomial(self.measurements))
        if isinstance(cache, MagCacheConfig):
            cache = replace(cache, ratios=mean_ratios(self.measurements))
        if hasattr(cache, "threshold"):
            return [replace(cache, threshold=float(f"{value:.4g}")) for value in _GRID]  # type: ignore[call-arg]
        raise ValueError(f"{type(cache).__name__} has a fixed schedule, so there is nothing to calibrate")

    def _planned_counts(self, cache: PlannedConfig) -> range:
        """Return how many steps a schedule can have, from all of them down."""
        first = FIRST_STEPS if isinstance(cache, DPCacheConfig) else 1
        gap = LONGEST_GAP if isinstance(cache, LeMiCaConfig) else self._forecast_gap
        fewest = first + math.ceil((self.num_steps - first) / gap)
        return range(self.num_steps, fewest - 1, -1)

    def plan(self, cache: PlannedConfig, num_computed: int) -> PlannedConfig:
        """Return the schedule of `num_computed` steps that LeMiCa or DPCache plans on this model.

        A bare `PlannedConfig` gets the schedule of least summed reuse error: the best static one, as far as errors
        add up.
        """
        if num_computed == self.num_steps:
            return replace(cache, steps=tuple(range(1, self.num_steps + 1)))
        if isinstance(cache, DPCacheConfig):
            costs = {key: cost for key, cost in self.forecast_costs.items() if _keeps_first(key)}
            return replace(cache, steps=tuple(plan_least_sum(costs, self.num_steps, num_computed)))
        if not isinstance(cache, LeMiCaConfig):
            return replace(cache, steps=tuple(plan_least_total(self.reuse_costs, self.num_steps, num_computed)))
        return replace(cache, steps=tuple(plan_least_worst(self.segment_costs, self.num_steps, num_computed)))

    # What is measured, each once

    def recordings(self, cache: AdaCacheConfig) -> list[Recording]:
        """Return one recording of AdaCache's probe for each job; the settings' probe must not change."""
        if self._recordings is None:
            strides = cache.moreg.strides if cache.moreg else (1,)
            self._recordings = []
            for job in self.jobs:
                with record_probe(self.models.transformer, cache) as residuals:
                    self._denoise(None, [job])
                frames, max_rate = self.config.num_latent_frames, max(cache.codebook.values())
                self._recordings.append(record(residuals, frames, strides, max_rate, cache.metric))
        return self._recordings

    @cached_property
    def measurements(self) -> list[StepMeasurements]:
        """One uncached video for each job."""
        found = []
        for job in self.jobs:
            measured = StepMeasurements(max_gap=self._forecast_gap)
            with record_stack(self.models.transformer, measured.observe):
                self._denoise(None, [job])
            found.append(measured)
        return found

    @cached_property
    def forecast_costs(self) -> dict[tuple[int, int, int], float]:
        """DPCache's costs, the mean over videos."""
        return mean_costs(forecast_costs(measured, self._forecast_gap) for measured in self.measurements)

    @property
    def _forecast_gap(self) -> int:
        return max(int(LONGEST_GAP_SHARE * self.num_steps), 2)

    @cached_property
    def reuse_costs(self) -> dict[tuple[int, int], float]:
        """What reusing each stretch of steps costs, the mean over videos (`step_costs.reuse_costs`)."""
        weights = step_lengths(self.config)
        return mean_costs(reuse_costs(measured, weights) for measured in self.measurements)

    @cached_property
    def segment_costs(self) -> dict[tuple[int, int], float]:
        """LeMiCa's costs: (i, j) → mean |latents − uncached latents| where only the steps between i and j reuse.

        There are about `LONGEST_GAP` − 1 runs for each step, so only the first jobs are made, each run from step i on.
        """
        costs, n, jobs = {}, self.num_steps, self.jobs[:_SEGMENT_JOBS]
        with record_outputs(self.models.transformer) as outputs:
            uncached, _ = self._denoise(None, jobs)
        for i in range(1, n + 1):
            for j in range(i + 2, min(i + LONGEST_GAP, n) + 1):
                computed = (1, *range(j - i + 1, n - i + 2))
                latents = self._denoise_from(i, PlannedConfig(steps=computed), outputs, jobs)
                costs[i, j] = (latents - uncached).abs().mean().item()
        return costs

    def profiled(self, cache: ForecastCacheConfig) -> ForecastCacheConfig:
        """Return the settings with the sensitivity and growth of this model."""
        kind = cache.order, cache.corrector
        if kind not in self._forecast_profiles:
            self._forecast_profiles[kind] = self._measure_forecasts(*kind)
        sensitivity, growth = self._forecast_profiles[kind]
        return replace(cache, sensitivity=sensitivity, growth=growth)

    def _measure_forecasts(self, order: int, corrector: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return ForecastCache's sensitivity and growth, for each step.

        Takes one run for each step, of what follows it, so only the first jobs are made.
        """
        n, jobs = self.num_steps, self.jobs[:_PROFILE_JOBS]
        before = order + 2  # computed steps with which every gain of a forecast was measured
        with record_outputs(self.models.transformer) as outputs:
            plain = ForecastCacheConfig(computed_steps=n, order=order, corrector=corrector)
            with apply_cache(self.models.transformer, plain, n) as session:
                uncached, _ = self._denoise(None, jobs)
            errors = {record.step: record.distance or 0.0 for record in session.trace}
        harm = {}
        for step in range(before, n + 1):
            # the steps before it that its forecast rests on, the first of which is the run's first
            first = max(step - before, 1)
            computed = tuple(s - first + 1 for s in range(first, n + 1) if s != step)
            planned = PlannedForecastConfig(steps=computed, order=order, corrector=corrector)
            latents = self._denoise_from(first, planned, outputs, jobs)
            harm[step] = (latents - uncached).square().flatten(1).mean(1).sqrt().mean().item()
        harm[n] *= 1 - corrector  # nothing follows that corrects the last step, which plans reckon with by themselves
        sensitivity = sensitivity_profile(harm, errors, n)
        budgets = {max(first_steps(n), round(n / speedup)) for speedup in _PROFILE_SPEEDUPS}
        caches = [replace(plain, computed_steps=k, sensitivity=sensitivity) for k in sorted(budgets)]
        traces = [trace for cache in caches for trace in self._denoise(cache, jobs)[1]]
        return sensitivity, growth_profile(traces, n)

    @cached_property
    def _uncached_frames(self) -> list[Tensor]:
        return self._decode(self._denoise(None)[0])

    def mean_steps(self, cache: CacheConfig) -> float:
        """Return the mean number of computed steps of the jobs' videos."""
        policy = cache.build(self.num_steps, [[0]])
        if isinstance(policy, PlannedPolicy):
            return len(policy.steps)
        if repr(cache) not in self._mean_steps:  # searches for several speedups meet the same settings
            _, traces = self._denoise(cache)
            self._mean_steps[repr(cache)] = fmean(len(computed_steps(trace)) for trace in traces)
        return self._mean_steps[repr(cache)]

    def mean_psnr(self, cache: CacheConfig) -> float:
        """Return the mean PSNR in dB of the jobs' videos to the uncached ones."""
        frames = self._decode(self._denoise(cache)[0])
        return fmean(psnr(one, other) for one, other in zip(frames, self._uncached_frames, strict=True))

    def _denoise(self, cache: CacheConfig | None, jobs: Sequence[VideoJob] | None = None) -> tuple[Tensor, list]:
        if cache is not None:
            cache = replace(cache, decision="sample")  # type: ignore[call-arg]
        pipeline = self.models.pipeline(replace(self.config, cache=cache))
        result = pipeline.denoise(jobs or self.jobs, self.models.features)
        self.on_run()
        return result

    def _denoise_from(
        self, step: int, cache: CacheConfig, outputs: Sequence[Tensor], jobs: Sequence[VideoJob]
    ) -> Tensor:
        """Return the latents of runs whose steps before `step` are recorded outputs; the cache counts from there."""
        with (
            apply_cache(self.models.transformer, cache, self.num_steps - step + 1),
            play_back(self.models.transformer, outputs[: step - 1]),
        ):
            return self._denoise(None, jobs)[0]

    def _decode(self, latents: Tensor) -> list[Tensor]:
        pipeline = self.models.pipeline(self.config)
        return [pipeline.decode(z).clamp(-1, 1) for z in latents]


def _keeps_first(key: tuple[int, int, int]) -> bool:
    """Tell whether a transition leaves no gap among the first steps."""
    return all(late == early + 1 for early, late in zip(key, key[1:], strict=False) if early < FIRST_STEPS)


def starting_settings(policy: str) -> CacheConfig:
    """Return settings of a policy to calibrate from: published values, and stand-ins for constants of the model.

    Args:
        policy: name on the command line.

    Raises:
        ValueError: there is no such policy.
    """
    needed: dict[str, dict[str, Any]] = {
        "magcache": {"ratios": (1.0,)},
        "lemica": {"steps": (1,)},
        "dpcache": {"steps": (1,)},
        "forecastcache": {"speedup": 2.0, "corrector": 0.5},
    }
    settings = needed.get(policy, {})
    if policy == "adacache":
        settings = {"codebook": read_setting(PUBLISHED_FAST).section["codebook"]}
    return named_class(policy)(**settings)
