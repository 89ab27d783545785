"""Summarize the rows of videos, one summary per setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from opensora_adacache.benchmark.description import BASELINE, ComparisonRecord, SettingRecord
from opensora_adacache.benchmark.results import MOTIONS, ResultRow
from opensora_adacache.metrics.bootstrap import Interval, bootstrap_interval
from opensora_adacache.scenes.words import ATTRIBUTES


@dataclass(frozen=True)
class MotionSummary:
    """Means over the videos of one motion class, or None for what was not measured."""

    num_videos: int
    computed_steps: Interval | None
    flicker: float | None
    motion_error: float | None


@dataclass(frozen=True)
class SettingSummary:
    """The videos of one setting. Values that were not measured, or do not apply to the baseline, are None.

    Attributes:
        setting: the setting.
        num_videos: number of videos.
        num_steps: number of denoising steps.
        psnr, ssim, lpips: means with a bootstrap 95 % interval over prompts, from raw frames; PSNR in dB.
        psnr_mp4, ssim_mp4, lpips_mp4: the same, from the decoded files.
        tflops: mean 10¹² FLOPs of the denoising loop; None if they are not counted.
        flop_speedup: FLOPs of the baseline divided by those of this setting, for the same videos.
        loop_s: median seconds of the denoising loop.
        latency_s: median seconds of the whole run.
        speedup: denoising seconds of the baseline divided by those of this setting, for the same videos.
        computed_steps: mean number of computed steps.
        cache_mb: peak size of the cached residuals of any video, in 10⁶ bytes.
        peak_memory_mb: peak memory of any video, in 10⁶ bytes.
        checks: attribute → fraction of correct answers, for attributes that were asked.
        by_motion: motion class → its means, for classes that occur.
    """

    setting: SettingRecord
    num_videos: int
    num_steps: int
    psnr: Interval | None
    ssim: Interval | None
    lpips: Interval | None
    psnr_mp4: Interval | None
    ssim_mp4: Interval | None
    lpips_mp4: Interval | None
    tflops: float | None
    flop_speedup: float | None
    loop_s: float
    latency_s: float
    speedup: float | None
    computed_steps: float
    cache_mb: float
    peak_memory_mb: float | None
    checks: dict[str, float]
    by_motion: dict[str, MotionSummary]

    @property
    def efficiency(self) -> float | None:
        """The speedup as a fraction of the FLOP speedup; 1 means that only computation takes time."""
        return None if self.speedup is None or not self.flop_speedup else self.speedup / self.flop_speedup


def summarize(rows: Sequence[ResultRow], comparison: ComparisonRecord) -> list[SettingSummary]:
    """Summarize each setting that has a video, in the order of the benchmark.

    Raises:
        ValueError: there are no rows, or the setting of a row is not part of the benchmark.
    """
    if not rows:
        raise ValueError("there is no result yet; let opensora-adacache compare finish at least one video")
    by_setting: dict[str, list[ResultRow]] = {setting.name: [] for setting in comparison.settings}
    for row in rows:
        if row.setting not in by_setting:
            raise ValueError(
                f"setting '{row.setting}' has results but is not in comparison.json; run opensora-adacache compare "
                "again"
            )
        by_setting[row.setting].append(row)
    baseline = {row.video_key: row for row in rows if row.policy == BASELINE}
    return [
        _summarize_setting(setting, by_setting[setting.name], baseline)
        for setting in comparison.settings
        if by_setting[setting.name]
    ]


def ratio_to_baseline(
    rows: Sequence[ResultRow], baseline: dict[tuple[int, int], ResultRow], cost: Callable[[ResultRow], float]
) -> float | None:
    """Return the baseline's total cost divided by that of the rows, over common videos; None if there are none."""
    pairs = [(cost(baseline[row.video_key]), cost(row)) for row in rows if row.video_key in baseline]
    own = sum(cost for _, cost in pairs)
    return sum(cost for cost, _ in pairs) / own if own else None


def _summarize_setting(
    setting: SettingRecord, rows: list[ResultRow], baseline: dict[tuple[int, int], ResultRow]
) -> SettingSummary:
    flops = [row.tflops for row in rows if row.tflops is not None]
    memory = [row.peak_memory_bytes for row in rows if row.peak_memory_bytes is not None]
    return SettingSummary(
        setting=setting,
        num_videos=len(rows),
        num_steps=rows[0].num_steps,
        psnr=_interval(rows, "psnr"),
        ssim=_interval(rows, "ssim"),
        lpips=_interval(rows, "lpips"),
        psnr_mp4=_interval(rows, "psnr_mp4"),
        ssim_mp4=_interval(rows, "ssim_mp4"),
        lpips_mp4=_interval(rows, "lpips_mp4"),
        tflops=fmean(flops) if len(flops) == len(rows) else None,
        flop_speedup=ratio_to_baseline(rows, baseline, lambda row: row.tflops or 0.0),
        loop_s=median(row.loop_s for row in rows),
        latency_s=median(row.latency_s for row in rows),
        speedup=ratio_to_baseline(rows, baseline, lambda row: row.loop_s),
        computed_steps=fmean(row.computed_steps for row in rows),
        cache_mb=max(row.cache_bytes for row in rows) / 1e6,
        peak_memory_mb=max(memory) / 1e6 if memory else None,
        checks=_checks(rows),
        by_motion={
            motion: _by_motion(group) for motion in MOTIONS if (group := [r for r in rows if r.motion == motion])
        },
    )


def _interval(rows: list[ResultRow], name: str) -> Interval | None:
    """Return the mean of a metric with its interval. The bootstrap draws the seeds of a prompt together."""
    measured = [(row.index, getattr(row, name)) for row in rows if getattr(row, name) is not None]
    if not measured:
        return None
    prompts, values = zip(*measured, strict=True)
    return bootstrap_interval(values, clusters=prompts)


def _checks(rows: list[ResultRow]) -> dict[str, float]:
    shares = {}
    for name in ATTRIBUTES:
        counts = [row.checks[name] for row in rows if row.checks and name in row.checks]
        asked = sum(count[1] for count in counts)
        if asked:
            shares[name] = sum(count[0] for count in counts) / asked
    return shares


def _by_motion(rows: list[ResultRow]) -> MotionSummary:
    flicker = [row.flicker for row in rows if row.flicker is not None]
    error = [row.motion_error for row in rows if row.motion_error is not None]
    return MotionSummary(
        num_videos=len(rows),
        computed_steps=_interval(rows, "computed_steps"),
        flicker=fmean(flicker) if flicker else None,
        motion_error=fmean(error) if error else None,
    )
