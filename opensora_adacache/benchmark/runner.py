"""Run a comparison: every setting on the same prompts and seeds, one row for each video, resumable.

The folder of a comparison holds ``comparison.json`` (what is compared, on which machine), ``results.jsonl`` (a row
for each video), ``videos/SETTING/…mp4``, ``costs/…`` (what skipping steps would cost each video, where an oracle is
compared) and the report made from them.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensora_adacache.benchmark.config import BASELINE, Comparison, Setting
from opensora_adacache.benchmark.description import (
    ComparisonRecord,
    SettingRecord,
    read_comparison,
    write_comparison,
)
from opensora_adacache.benchmark.memory import MemoryPeak
from opensora_adacache.benchmark.paper import find_table
from opensora_adacache.benchmark.results import CHECKS, ResultRow, append_result, read_results
from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.caching.registry import command_name
from opensora_adacache.calibration.planning import plan_least_total, split_budget
from opensora_adacache.costs.run import count_run, step_lengths
from opensora_adacache.generation.jobs import VideoJob, first_difference, plan_jobs
from opensora_adacache.generation.records import plain
from opensora_adacache.media.video import read_video, write_file, write_video
from opensora_adacache.metrics.motion import flicker, motion_error
from opensora_adacache.metrics.quality import check_metrics, load_metrics

if TYPE_CHECKING:
    from torch import Tensor

    from opensora_adacache.config.settings import RunConfig
    from opensora_adacache.generation.loading import LoadedModels
    from opensora_adacache.generation.pipeline import Clip
    from opensora_adacache.metrics.quality import Metric
    from opensora_adacache.shapes.scene import SceneSpec

# What a row holds of the comparison with the baseline's video.
_QUALITY = ("psnr", "ssim", "lpips", "psnr_mp4", "ssim_mp4", "lpips_mp4", "motion_error")
RESULTS, DESCRIPTION = "results.jsonl", "comparison.json"
# Most steps from one computed step to the next in an oracle's schedule.
_LONGEST_GAP = 12


@dataclass(frozen=True)
class Task:
    """One prompt and seed, and what its video should show where that is known."""

    job: VideoJob
    seed: int
    spec: SceneSpec | None

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.job.index:04d}-{self.job.sample}"


def plan_tasks(comparison: Comparison, limit: int | None = None) -> tuple[Comparison, list[Task]]:
    """Return the videos of each setting, and the comparison with their prompts in all its runs.

    Raises:
        ValueError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be at least 1, got {limit}")
    specs: list[SceneSpec | None] = []
    if comparison.prompts.heldout:
        from opensora_adacache.shapes.dataset import heldout_prompts

        drawn = heldout_prompts(comparison.prompts.heldout, comparison.prompts.seed)
        texts, specs = [text for text, _ in drawn], [spec for _, spec in drawn]
    else:
        texts = list(comparison.run.prompts)
    texts = texts[:limit]
    changes: dict[str, Any] = {"prompts": tuple(texts), "num_sample": comparison.num_seeds, "overwrite": True}
    changes |= {"batch_size": 1, "prompt_as_path": False, "start_index": 0}
    run = replace(comparison.run, **changes)
    settings = tuple(replace(s, config=replace(s.config, **changes)) for s in comparison.settings)
    jobs = plan_jobs(run)
    tasks = [Task(job, job.loop_seed(0), specs[job.index] if specs else None) for job in jobs]
    return replace(comparison, run=run, settings=settings), tasks


class ComparisonRun:
    """A comparison in its folder.

    Args:
        comparison: what to compare.
        folder: where everything goes.
        limit: take only the first prompts.
        command: as typed, for the record.

    Raises:
        ValueError: the folder holds another comparison.
    """

    def __init__(self, comparison: Comparison, folder: Path, limit: int | None, command: str) -> None:
        check_metrics(comparison.metrics)
        check_pairs(comparison)
        self.comparison, self.tasks = plan_tasks(comparison, limit)
        self.folder = folder
        self.command = command
        self.settings = {BASELINE: self.comparison.run} | {s.name: s.config for s in self.comparison.settings}
        self._check_folder()
        rows = read_results(folder / RESULTS) if (folder / RESULTS).exists() else []
        self.done = {(row.setting, *row.video_key) for row in rows}

    @cached_property
    def metrics(self) -> tuple[dict[str, Metric], dict[str, str]]:
        """The metrics, and why those are missing that cannot be computed here."""
        return load_metrics(self.comparison.metrics)

    @property
    def num_missing(self) -> int:
        """Videos that are still to be made."""
        keys = {(name, task.job.index, task.seed) for name in self.settings for task in self.tasks}
        return len(keys - self.done)

    def run(self, progress: Callable[[], Any] = lambda: None) -> None:
        """Make what is missing; rows are written one by one, and the prompts' settings take turns being first.

        Args:
            progress: called after each video.
        """
        from opensora_adacache.generation.loading import load_models

        write_comparison(self.folder / DESCRIPTION, self.describe())
        if not self.num_missing:
            return
        worker = _Worker(self, load_models(self.comparison.run, [t for task in self.tasks for t in task.job.texts]))
        worker.prepare()
        for number, task in enumerate(self.tasks):
            missing = [n for n in self.settings if (n, task.job.index, task.seed) not in self.done]
            turn = number % max(len(missing), 1)
            for row in worker.rows(task, missing[turn:] + missing[:turn]):
                append_result(self.folder / RESULTS, row)
                self.done.add((row.setting, *row.video_key))
                progress()

    def describe(self) -> ComparisonRecord:
        """Return what ``comparison.json`` holds."""
        import torch

        comparison = self.comparison
        table = find_table(comparison.paper) if comparison.paper else None
        settings = [SettingRecord(BASELINE, BASELINE, BASELINE, paper=BASELINE)]
        settings += [
            SettingRecord(s.name, s.title, policy_name(s), s.paper, oracle=s.oracle is not None)
            for s in comparison.settings
        ]
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
        threads = torch.get_num_threads()
        return ComparisonRecord(
            config=str(comparison.path),
            command=self.command,
            machine=f"{device}, {threads} thread{'' if threads == 1 else 's'}",
            date=str(date.today()),
            torch=torch.__version__,
            num_prompts=len(comparison.run.prompts),
            num_seeds=comparison.num_seeds,
            title=comparison.title,
            settings=tuple(settings),
            paper=comparison.paper,
            paper_rows=tuple(table.rows.values()) if table else (),
            paper_source=table.source if table else "",
            lpips_missing=self.metrics[1].get("lpips") if "lpips" in comparison.metrics else "it was not asked for",
            runs={name: plain(asdict(config)) for name, config in self.settings.items()},
        )

    def _check_folder(self) -> None:
        path = self.folder / DESCRIPTION
        if not path.exists():
            return
        try:
            old = read_comparison(path).runs
        except ValueError:
            raise ValueError(f"'{path}' is not what compare.py writes; choose another --out") from None
        for name, config in self.settings.items():
            difference = first_difference(_content(old[name]), _content(plain(asdict(config)))) if name in old else None
            if difference:
                raise ValueError(
                    f"'{self.folder}' holds '{name}' with other settings ({difference}); choose another --out"
                )


def check_pairs(comparison: Comparison) -> None:
    """Raise ValueError where a setting's videos would not pair with the baseline's."""
    for setting in comparison.settings:
        for name in ("image_size", "num_frames", "loop", "seed"):
            ours, theirs = getattr(setting.config, name), getattr(comparison.run, name)
            if ours != theirs:
                raise ValueError(
                    f"setting '{setting.name}' has {name} {ours}, but the baseline has {theirs}: to be held against "
                    "each other videos need one size and seed; give it a comparison of its own"
                )


def policy_name(setting: Setting) -> str:
    """Return the name of a setting's policy in tables: AdaCache that forecasts is another one than the published."""
    if setting.oracle:
        return f"oracle-{setting.oracle}"
    cache = setting.config.cache
    return command_name(type(cache)) + ("-forecast" if isinstance(cache, AdaCacheConfig) and cache.forecast else "")


@dataclass(frozen=True)
class _Frames:
    """A video [3, F, H, W] in -1..1: as it was made, and as decoded from its file."""

    raw: Tensor
    mp4: Tensor


@dataclass(frozen=True)
class _Made:
    """A video that was made and written."""

    config: RunConfig
    clip: Clip
    frames: _Frames
    memory: int | None
    path: Path


class _Worker:
    """The loaded models of a comparison and what is computed once."""

    def __init__(self, run: ComparisonRun, models: LoadedModels) -> None:
        self.run, self.models = run, models
        self.settings = {setting.name: setting for setting in run.comparison.settings}
        self.measures, _ = run.metrics
        self.plans: dict[tuple[str, str], list[int]] = {}

    def prepare(self) -> None:
        """Warm up, and plan the oracles' schedules from uncached runs of every video."""
        pipeline = self.models.pipeline(self.run.comparison.run)
        pipeline.denoise([self.run.tasks[0].job], self.models.features)
        oracles = [s for s in self.run.comparison.settings if s.oracle in ("video", "budget")]
        if not oracles:
            return
        n = self.run.comparison.run.scheduler.num_sampling_steps
        costs = [self._reuse_costs(task) for task in self.run.tasks]
        for setting in oracles:
            wanted = setting.computed_steps or n  # the config makes sure that it is there
            counts = [round(wanted)] * len(costs)
            if setting.oracle == "budget":
                counts = split_budget([_least_costs(c, n) for c in costs], round(wanted * len(costs)))
            for task, cost, count in zip(self.run.tasks, costs, counts, strict=True):
                self.plans[setting.name, task.name] = plan_least_total(cost, n, count)

    def _reuse_costs(self, task: Task) -> dict[tuple[int, int], float]:
        """Return what reusing each stretch of steps would cost this video, measured once."""
        from opensora_adacache.adapters.recorder import record_stack
        from opensora_adacache.calibration.step_costs import StepMeasurements, reuse_costs

        path = self.run.folder / "costs" / f"{task.name}.json"
        if path.exists():
            return {(i, j): cost for i, j, cost in json.loads(path.read_text())}
        measured = StepMeasurements(max_gap=_LONGEST_GAP, forecasts=False)
        pipeline = self.models.pipeline(self.run.comparison.run)
        with record_stack(self.models.transformer, measured.observe):
            pipeline.denoise([task.job], self.models.features)
        costs = reuse_costs(measured, step_lengths(self.run.comparison.run))
        write_file(path, json.dumps([[i, j, cost] for (i, j), cost in costs.items()]).encode())
        return costs

    def rows(self, task: Task, names: Sequence[str]) -> Iterator[ResultRow]:
        """Make a task's videos in turn, after the baseline's, which the others are held against."""
        if not names:
            return
        reference: _Frames | None = None
        for name in [BASELINE, *(name for name in names if name != BASELINE)]:
            made = self._make(name, task)
            reference = reference or made.frames
            if name in names:
                yield self._row(name, task, made, reference)

    def _make(self, name: str, task: Task) -> _Made:
        """Make one video and write it."""
        config = self.run.settings[name]
        if (name, task.name) in self.plans:
            config = replace(config, cache=PlannedConfig(steps=tuple(self.plans[name, task.name])))
        with MemoryPeak(self.models.device) as memory:
            clip = self.models.pipeline(config).generate([task.job], self.models.features)[0]
        path = self.run.folder / "videos" / name / f"{task.name}.mp4"
        write_video(path, clip.frames, config.save_fps)
        return _Made(config, clip, _Frames(clip.frames.clamp(-1, 1), read_video(path)), memory.bytes, path)

    def _row(self, name: str, task: Task, made: _Made, reference: _Frames) -> ResultRow:
        clip, config = made.clip, made.config
        num_steps = config.scheduler.num_sampling_steps * config.loop
        records = [record for trace in clip.traces for record in trace]
        computed = [record.computed for record in records] or [True] * num_steps
        measured = {} if name == BASELINE else self._quality(made.frames, reference)
        quality: dict[str, Any] = {key: measured.get(key) for key in _QUALITY}
        return ResultRow(
            policy=BASELINE if name == BASELINE else policy_name(self.settings[name]),
            setting=name,
            title=BASELINE if name == BASELINE else self.settings[name].title,
            prompt=task.job.prompt,
            index=task.job.index,
            seed=task.seed,
            **quality,
            flicker=flicker(made.frames.raw),
            latency_s=clip.denoising_seconds + clip.decoding_seconds,
            loop_s=clip.denoising_seconds,
            tflops=(count_run(config, sum(computed)) or 0.0) / 1e12,
            computed_steps=sum(computed),
            num_steps=num_steps,
            cache_bytes=clip.peak_cache_bytes,
            peak_memory_bytes=made.memory,
            video=str(made.path.relative_to(self.run.folder)),
            motion=task.spec.speed if task.spec else None,
            checks=None if task.spec is None else check(task.spec, made.frames.raw),
            schedule="".join("#" if step else "." for step in computed),
            distances=[record.distance for record in records] or [None] * num_steps,
            motions=[record.motion for record in records] or [None] * num_steps,
        )

    def _quality(self, frames: _Frames, reference: _Frames) -> dict[str, float | None]:
        found: dict[str, float | None] = {"motion_error": motion_error(frames.raw, reference.raw)}
        for suffix, one, other in (("", frames.raw, reference.raw), ("_mp4", frames.mp4, reference.mp4)):
            for metric, measure in self.measures.items():
                found[metric + suffix] = measure(one, other)
        return found


def check(spec: SceneSpec, frames: Tensor) -> dict[str, list[int]]:
    """Return attribute → how many answers the checker reads right, and how many were asked for."""
    from opensora_adacache.shapes.checker import read_clip, score_clip

    score = score_clip(spec, read_clip(frames.numpy()))
    return {name: [score.right[name], score.asked[name]] for name in CHECKS}


def _least_costs(costs: Mapping[tuple[int, int], float], num_steps: int) -> dict[int, float]:
    """Return K → cost of the best schedule of K steps, for every K that the longest gap allows."""
    fewest = math.ceil((num_steps - 1) / _LONGEST_GAP) + 1
    plans = {k: plan_least_total(costs, num_steps, k) for k in range(fewest, num_steps + 1)}
    return {k: sum(costs.get(pair, 0.0) for pair in zip(plan, plan[1:], strict=False)) for k, plan in plans.items()}


def _content(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the pixels of a run's videos depend on, whatever prompts were asked for."""
    left_out = ("path", "prompts", "save_dir", "verbose", "overwrite", "batch_size")
    return {key: value for key, value in run.items() if key not in left_out}
