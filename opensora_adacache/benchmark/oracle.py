"""How far ForecastCache is from the best schedules with as many computed steps, the same forecast and corrector.

The search for the best schedules uses the videos themselves, which no policy can do. It finds one schedule for all
videos (static), one for each video, and the best split of the computed steps between the videos among the budgets that
were searched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from opensora_adacache.adapters import apply_cache
from opensora_adacache.benchmark.config import Comparison, Setting
from opensora_adacache.benchmark.schedule_search import Schedule, best_per_video, best_static, even_schedule
from opensora_adacache.benchmark.table_files import markdown_table
from opensora_adacache.caching.contract import CachePolicy
from opensora_adacache.caching.forecast.config import ForecastCacheConfig, PlannedForecastConfig
from opensora_adacache.caching.trace import computed_steps
from opensora_adacache.calibration.planning import split_budget
from opensora_adacache.errors.shown import counted
from opensora_adacache.metrics.quality import psnr

if TYPE_CHECKING:
    from torch import Tensor

    from opensora_adacache.caching.contract import CacheConfig
    from opensora_adacache.caching.trace import StepRecord
    from opensora_adacache.config.settings import OpenSoraConfig
    from opensora_adacache.generation.jobs import VideoJob


def budget_settings(comparison: Comparison) -> list[Setting]:
    """Return the settings whose policy has a budget of computed steps; only ForecastCache has one.

    Raises:
        ValueError: there is no such setting.
    """
    steps = comparison.run.num_sampling_steps
    budgets = [(setting, getattr(setting.config.cache, "budget", None)) for setting in comparison.settings]
    found = [setting for setting, budget in budgets if budget and budget(steps)]
    if not found:
        raise ValueError(f"'{comparison.path}' has no ForecastCache with a speedup or computed_steps; add one")
    return found


class Bench:
    """The loaded models, the jobs, and the uncached frames of each job.

    Args:
        config: config of the run.
        jobs: videos to make, in one batch.
    """

    def __init__(self, config: OpenSoraConfig, jobs: Sequence[VideoJob]) -> None:
        from opensora_adacache.generation.loading import load_models

        self.models = load_models(config, [text for job in jobs for text in job.texts])
        self.jobs, self.num_steps = list(jobs), config.scheduler.num_sampling_steps
        self.pipeline = self.models.pipeline(config)
        self.uncached = self._frames(None)[0]

    def run(self, cache: CacheConfig | None) -> tuple[list[float], list[Schedule]]:
        """Return each video's PSNR in dB, of float frames against the uncached ones, and its computed steps."""
        frames, traces = self._frames(cache)
        values = [psnr(one, other) for one, other in zip(frames, self.uncached, strict=True)]
        return values, [tuple(computed_steps(trace)) for trace in traces]

    def _frames(self, cache: CacheConfig | None) -> tuple[list[Tensor], Sequence[Sequence[StepRecord]]]:
        traces: Sequence[Sequence[StepRecord]] = []
        if cache is None:
            latents, _ = self.pipeline.denoise(self.jobs, self.models.features)
        else:
            with apply_cache(self.models.transformer, cache, self.num_steps) as session:
                latents, _ = self.pipeline.denoise(self.jobs, self.models.features)
            traces = session.traces
        return [self.pipeline.decode(z).clamp(-1, 1) for z in latents], traces


@dataclass
class Found:
    """Results of one budget. PSNRs are in dB, one per video.

    Attributes:
        computed_steps: the budget.
        even: PSNR with evenly spaced computed steps.
        policy: PSNR with ForecastCache.
        shared: PSNR with ForecastCache when the videos of the batch share one budget.
        static: PSNR with the best schedule found for all videos.
        video: PSNR with the best schedule found for each video.
        static_schedule: the best schedule found for all videos.
        video_schedules: the best schedule found for each video.
    """

    computed_steps: int
    even: list[float]
    policy: list[float]
    shared: list[float]
    static: list[float]
    video: list[float]
    static_schedule: Schedule
    video_schedules: list[Schedule]


def search_budget(bench: Bench, cache: ForecastCacheConfig, rounds: int) -> Found:
    """Search for the best schedules of one budget, with `rounds` moves in each search."""
    n, num_videos, budget = bench.num_steps, len(bench.jobs), cache.budget(bench.num_steps) or bench.num_steps

    def score(schedules: Sequence[Schedule]) -> list[float]:
        return bench.run(_ScheduledConfig.of(schedules, cache))[0]

    policy, taken = bench.run(replace(cache, decision="sample"))
    even = even_schedule(n, budget)
    static, static_values = best_static(list(dict.fromkeys(taken)), num_videos, n, score, rounds)
    starts = [(static, s) if s > p else (own, p) for s, p, own in zip(static_values, policy, taken, strict=True)]
    schedules, values = best_per_video([one for one, _ in starts], [two for _, two in starts], n, score, rounds)
    print(f"{budget} of {n}: {fmean(policy):.2f} {fmean(static_values):.2f} {fmean(values):.2f} dB", file=sys.stderr)
    shared = bench.run(replace(cache, decision="sample", budget_over="batch"))[0]
    return Found(budget, score([even] * num_videos), policy, shared, static_values, values, static, schedules)


def oracle_lines(found: Sequence[Found], num_steps: int, num_videos: int) -> list[str]:
    """Return the Markdown table of the budgets that were searched, line by line."""
    totals = [{f.computed_steps: -f.video[i] for f in found} for i in range(num_videos)]
    columns = (
        *("computed steps", "even", "ForecastCache", "its shared budget", "best static", "best per video"),
        *("best split", "fraction of the static gain", "below the best per video, dB"),
    )
    rows = []
    for one in found:
        split = split_budget(totals, one.computed_steps * num_videos)
        best_split = fmean(-total[count] for total, count in zip(totals, split, strict=True))
        even, policy, shared, static, video = map(fmean, (one.even, one.policy, one.shared, one.static, one.video))
        share = (policy - even) / (static - even) if static > even else 1.0
        numbers = (even, policy, shared, static, video, best_split, share, video - policy)
        rows.append((str(one.computed_steps), *(f"{number:.2f}" for number in numbers)))
    return [
        f"{counted(num_steps, 'step')}, {counted(num_videos, 'prompt')}, PSNR in dB between float frames and the "
        "uncached ones.",
        "",
        *markdown_table(columns, rows),
    ]


class _ScheduledPolicy(CachePolicy):
    """Computes each video at the steps of its own schedule."""

    def __init__(self, groups: list[list[int]], schedules: Sequence[Schedule]) -> None:
        super().__init__(groups)
        self._schedules = schedules

    def decide(self, view):
        return [view.step in schedule for schedule in self._schedules]


@dataclass(frozen=True)
class _ScheduledConfig(PlannedForecastConfig):
    """A schedule for each video, with the forecast of given settings."""

    schedules: tuple[Schedule, ...] = ()

    @classmethod
    def of(cls, schedules: Sequence[Schedule], cache: ForecastCacheConfig) -> _ScheduledConfig:
        """Return settings that compute by these schedules and forecast as `cache` does."""
        return cls(
            steps=schedules[0],
            schedules=tuple(schedules),
            order=cache.order,
            corrector=cache.corrector,
            decision="sample",
        )

    def build(self, num_sampling_steps, groups):
        return _ScheduledPolicy(groups, self.schedules)
