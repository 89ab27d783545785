"""How long the missing videos of a benchmark will take, from one batch that is made and thrown away."""

from __future__ import annotations

import time

from opensora_adacache.benchmark.runner import ComparisonRun
from opensora_adacache.benchmark.tasks import batched
from opensora_adacache.benchmark.worker import check
from opensora_adacache.errors.shown import counted
from opensora_adacache.generation.models import load_run
from opensora_adacache.metrics.quality import load_metrics


def estimate_line(run: ComparisonRun) -> str:
    """Make the baseline videos of the first batch, and return a line with the work and the time that it will take.

    The time is that of the computed steps, decoding and metrics; skipped steps and the settings that hold others to
    their budgets add to it.
    """
    comparison = run.comparison
    batch = batched(run.tasks, comparison.batch_size)[0]
    models = load_run(comparison.run, [task.job for task in batch])
    decode = models.maker(comparison.run).denoise([task.job for task in batch])
    start = time.perf_counter()
    clips = decode()
    for measure in load_metrics(comparison.metrics)[0].values():
        measure(clips[0].frames, clips[0].frames)
    if batch[0].spec is not None:
        check(batch[0].spec, clips[0].frames)
    per_step = clips[0].denoising_seconds / len(batch) / clips[0].num_steps
    per_video = (time.perf_counter() - start) / len(batch)
    workers = getattr(comparison.run.executor, "workers", None) or 1
    hours = (run.num_missing_steps * per_step + run.num_missing * per_video) / workers / 3600
    time_text = f"{hours:.1f} hours" if hours >= 2 else f"{60 * hours:.0f} minutes"
    return (
        f"{counted(run.num_missing, 'video')} with {run.num_missing_steps:.0f} computed steps are missing: about "
        f"{time_text} with {counted(workers, 'worker')}, at {per_step:.3f} s a step and {per_video:.2f} s a video for "
        "decoding and metrics"
    )
