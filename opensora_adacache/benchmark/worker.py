"""Make and measure the videos of a benchmark, and return one row of the results for each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from opensora_adacache.benchmark.config import Comparison, Setting
from opensora_adacache.benchmark.description import BASELINE
from opensora_adacache.benchmark.memory import MemoryPeak
from opensora_adacache.benchmark.oracle_plans import plan_oracles
from opensora_adacache.benchmark.results import ResultRow, RowKey
from opensora_adacache.benchmark.shared_steps import SharedSteps
from opensora_adacache.benchmark.tasks import Task
from opensora_adacache.caching.guidance.settings import active
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.caching.registry import command_name
from opensora_adacache.caching.trace import StepRecord, work_done
from opensora_adacache.costs.run import count_run, step_flops
from opensora_adacache.errors.family import UncountedError
from opensora_adacache.media.reading import read_video
from opensora_adacache.media.writing import write_video
from opensora_adacache.metrics.motion import flicker, motion_error
from opensora_adacache.scenes.words import ATTRIBUTES

if TYPE_CHECKING:
    from torch import Tensor

    from opensora_adacache.config.settings import RunConfig
    from opensora_adacache.generation.clip import Clip, RunModels
    from opensora_adacache.metrics.quality import Metric
    from opensora_adacache.scenes.spec import Spec

# Columns that compare a video with the baseline video.
_QUALITY = ("psnr", "ssim", "lpips", "psnr_mp4", "ssim_mp4", "lpips_mp4", "motion_error")


def policy_name(setting: Setting) -> str:
    """Return the name of a setting's policy in tables. Forecasts of AdaCache and reuse of guidance are part of it."""
    if setting.oracle:
        return f"oracle-{setting.oracle}"
    cache = setting.config.cache
    assert cache is not None
    name = command_name(type(cache)) + ("-forecast" if getattr(cache, "forecast", 0) else "")
    return name if active(cache.guidance_reuse) is None else f"{name}-guidance"


@dataclass(frozen=True)
class _Frames:
    """A video [3, F, H, W] in -1..1: the raw frames, and the frames decoded from its file if there is one."""

    raw: Tensor
    mp4: Tensor | None


@dataclass(frozen=True)
class _Made:
    """A video that was made, and written to its file if videos are kept.

    Attributes:
        config: config that it was made with.
        clip: the video.
        frames: its frames.
        batch_size: number of videos that were made with it.
        memory: peak memory while they were made, in bytes.
        path: its file.
    """

    config: RunConfig
    clip: Clip
    frames: _Frames
    batch_size: int
    memory: int | None
    path: Path | None


class VideoMaker:
    """Makes and measures videos with the loaded models.

    Args:
        comparison: benchmark with its prompts (see `plan_tasks`).
        tasks: tasks of the benchmark.
        models: loaded models.
        measures: metrics of the benchmark.
        folder: output folder of the benchmark.
    """

    def __init__(
        self,
        comparison: Comparison,
        tasks: Sequence[Task],
        models: RunModels,
        measures: dict[str, Metric],
        folder: Path,
    ) -> None:
        self.models, self.measures, self.folder = models, measures, folder
        self.keep_videos = comparison.keep_videos
        self.shared = SharedSteps() if comparison.share_steps else None
        self.settings = {setting.name: setting for setting in comparison.settings}
        self.configs = {BASELINE: comparison.run} | {name: s.config for name, s in self.settings.items()}
        models.maker(comparison.run).warm_up([tasks[0].job])  # which is not timed
        self.plans = plan_oracles(comparison.settings, tasks, comparison.run, models, folder)

    def rows(self, tasks: Sequence[Task], names: Sequence[str], done: Collection[RowKey]) -> Iterator[ResultRow]:
        """Make the videos of a batch of tasks with the named settings, and return the rows that are not done.

        The baseline videos come first, because the others are compared with them.
        """
        missing = {name: [task for task in tasks if (name, *task.key) not in done] for name in dict.fromkeys(names)}
        if not any(missing.values()):
            return
        references: dict[str, _Frames] = {}
        with nullcontext() if self.shared is None else self.shared.attached(cast(Any, self.models).transformer):
            for name in [BASELINE, *(name for name in names if name != BASELINE and missing[name])]:
                for task, made in zip(tasks, self._make(name, tasks), strict=True):
                    reference = references.setdefault(task.name, made.frames)
                    if task in missing.get(name, ()):
                        yield self._row(name, task, made, reference)

    def _make(self, name: str, tasks: Sequence[Task]) -> Iterator[_Made]:
        """Make the videos of a batch, and write each to its file if videos are kept."""
        config = self.configs[name]
        if (name, tasks[0].name) in self.plans:  # of a batch of one
            config = replace(config, cache=PlannedConfig(steps=self.plans[name, tasks[0].name]))
        recording = self.shared.recording() if self.shared and name == BASELINE else nullcontext()
        with MemoryPeak(self.models.device) as memory, recording:
            clips = self.models.maker(config).denoise([task.job for task in tasks])()
        for task, clip in zip(tasks, clips, strict=True):
            frames, path, decoded = clip.frames.clamp(-1, 1), None, None
            if self.keep_videos:
                path = self.folder / "videos" / name / f"{task.name}.mp4"
                write_video(path, clip.frames, config.save_fps)
                decoded = read_video(path)
            yield _Made(config, clip, _Frames(frames, decoded), len(tasks), memory.bytes, path)

    def _row(self, name: str, task: Task, made: _Made, reference: _Frames) -> ResultRow:
        clip, config = made.clip, made.config
        num_steps = clip.num_steps
        num_branches = num_steps / config.num_steps  # that decide for themselves
        records = [record for trace in clip.traces for record in trace]
        computed = [record.computed for record in records] or [True] * num_steps
        measured = {} if name == BASELINE else self._quality(made.frames, reference)
        quality: dict[str, Any] = {key: measured.get(key) for key in _QUALITY}
        tflops = _tflops(config, (work_done(records) if records else num_steps) / num_branches, records)
        return ResultRow(
            policy=BASELINE if name == BASELINE else policy_name(self.settings[name]),
            setting=name,
            title=BASELINE if name == BASELINE else self.settings[name].title,
            prompt=task.job.prompt,
            index=task.job.index,
            seed=task.seed,
            **quality,
            flicker=flicker(made.frames.raw),
            latency_s=clip.denoising_seconds / made.batch_size + clip.decoding_seconds,
            loop_s=clip.denoising_seconds / made.batch_size,
            tflops=tflops,
            computed_steps=sum(computed),
            num_steps=num_steps,
            cache_bytes=clip.peak_cache_bytes // made.batch_size,
            peak_memory_bytes=made.memory,
            video=None if made.path is None else str(made.path.relative_to(self.folder)),
            motion=(task.spec.speed or "still") if task.spec else None,
            checks=None if task.spec is None else {k: tuple(v) for k, v in check(task.spec, made.frames.raw).items()},
            schedule="".join("#" if step else "." for step in computed),
            distances=tuple(record.distance for record in records) or (None,) * num_steps,
            motions=tuple(record.motion for record in records) or (None,) * num_steps,
            work=None if tflops is None else _work(config, 1e12 * tflops),
        )

    def _quality(self, frames: _Frames, reference: _Frames) -> dict[str, float | None]:
        found: dict[str, float | None] = {"motion_error": motion_error(frames.raw, reference.raw)}
        for suffix, one, other in (("", frames.raw, reference.raw), ("_mp4", frames.mp4, reference.mp4)):
            if one is None or other is None:
                continue
            for metric, measure in self.measures.items():
                found[metric + suffix] = measure(one, other)
        return found


def _tflops(config: RunConfig, computed_steps: float, records: Sequence[StepRecord]) -> float | None:
    """Return 10¹² FLOPs of the denoising loop, or None for a pipeline whose costs are not counted."""
    try:
        flops = count_run(config, computed_steps, records=records)
    except UncountedError:
        return None
    return None if flops is None else flops / 1e12


def _work(config: RunConfig, flops: float) -> float:
    """Return the number of computed steps of a run that costs this many FLOPs, if its other steps run no block."""
    step = step_flops(config)
    return round((flops - config.num_sampling_steps * step.reused) / (step.computed - step.reused), 6)


def check(spec: Spec, frames: Tensor) -> dict[str, list[int]]:
    """Return attribute → the checker's number of correct answers and number of questions."""
    from opensora_adacache.scenes.checker import read_clip, score_clip

    score = score_clip(spec, read_clip(frames.numpy()))
    return {name: [score.right[name], score.asked[name]] for name in ATTRIBUTES}
