"""Make the videos of a run: skip what is there, load the models once, write each video as it is finished."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensora_adacache.caching.trace import computed_steps, summarize, trace_to_json
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation.jobs import VideoJob, plan_jobs
from opensora_adacache.generation.records import describe_device, is_finished, write_record, write_run
from opensora_adacache.generation.reference_latents import check_references
from opensora_adacache.media.watermark import add_watermark
from opensora_adacache.media.writing import write_image, write_video
from opensora_adacache.parallel import ProcessGroup

if TYPE_CHECKING:
    from opensora_adacache.generation.pipeline import Clip, Pipeline
    from opensora_adacache.generation.text_features import TextFeatures
    from opensora_adacache.schedulers.rectified_flow import TextEncoder


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        num_made: videos made by this process.
        num_skipped: videos of the run that were there before.
        num_total: videos of the run.
        save_dir: where they are.
    """

    num_made: int
    num_skipped: int
    num_total: int
    save_dir: Path


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run; says in one line what is finished and how to go on."""


@dataclass(frozen=True)
class Batch:
    """Videos that are denoised together.

    Attributes:
        jobs: all of them.
        wanted: those to write; the others are there already, but the batch decides together.
    """

    jobs: tuple[VideoJob, ...]
    wanted: frozenset[Path]


def plan_batches(jobs: Sequence[VideoJob], config: RunConfig) -> list[Batch]:
    """Return the batches with unfinished videos.

    Batches are cut from the whole list, whatever is finished: so a resumed run and one that is shared between
    processes make the same batches as one that runs through. Finished members of a batch are left out, unless
    the batch decides together.

    Raises:
        ValueError: a video is there that was made with other settings.
    """
    unfinished = frozenset(job.path for job in jobs if not is_finished(job, config))
    batches = []
    for start in range(0, len(jobs), config.batch_size):
        members = tuple(jobs[start : start + config.batch_size])
        wanted = frozenset(job.path for job in members if job.path in unfinished)
        if wanted:
            kept = members if config.decides_per_batch else tuple(job for job in members if job.path in wanted)
            batches.append(Batch(kept, wanted))
    return batches


def run(config: RunConfig, group: ProcessGroup | None = None) -> RunSummary:
    """Make the videos of a run that are not there yet.

    Everything that can be checked is checked before the models are loaded. Each video is written when it is
    finished, under a temporary name and renamed, after its record; ``run.json`` is written at the start and at
    the end.

    Args:
        config: of the run.
        group: the processes that share it; None for this one alone.

    Raises:
        ValueError: a prompt, reference, checkpoint or file that is there does not fit.
        OSError: something cannot be read, downloaded or written.
        RunInterrupted: Ctrl-C.
    """
    group = group or ProcessGroup()
    # With logdate_dir each process has named a folder after its own clock.
    config = replace(config, save_dir=group.broadcast(config.save_dir))
    jobs = plan_jobs(config)
    batches = plan_batches(jobs, config)
    batches = group.broadcast(batches)  # the first process may already write while another still looks
    wanted = sum(len(batch.wanted) for batch in batches)
    summary = RunSummary(0, len(jobs) - wanted, len(jobs), config.save_dir)
    if not batches:
        return summary
    share = group.share(batches)
    worker = _Worker(config, jobs, group)
    try:
        worker.check(batches)
        num_made = worker.make(share)
        worker.finish()
    except KeyboardInterrupt:
        raise worker.interrupt() from None
    except BaseException:
        worker.note("failed")
        raise
    return replace(summary, num_made=num_made)


class _Worker:
    """One process's part of a run, and its timings."""

    def __init__(self, config: RunConfig, jobs: Sequence[VideoJob], group: ProcessGroup) -> None:
        self.config = config
        self.jobs = jobs
        self.group = group
        self.seconds = {"loading": 0.0, "text": 0.0, "denoising": 0.0, "decoding": 0.0, "total": 0.0}
        self._begin = time.perf_counter()
        self._shows = group.is_first and config.verbose > 0
        self._bars = self._shows and sys.stderr.isatty()  # a log file would fill with them
        self._device: dict[str, Any] = {}

    def check(self, batches: Sequence[Batch]) -> None:
        """Find out whether the folder can be written and the references can be read."""
        if self.group.is_first:
            self._write_run("running", [self.seconds])
        for references, masks in sorted(
            {(job.references, job.masks) for batch in batches for job in batch.jobs}, key=str
        ):
            check_references(references, masks, self.config)

    def make(self, batches: Sequence[Batch]) -> int:
        """Load the models and make the videos of some batches; return their number."""
        total = sum(len(batch.wanted) for batch in batches)
        if not batches:
            return total
        from tqdm import tqdm

        from opensora_adacache.generation.text_features import TextFeatures

        pipeline, encoder, all_features = self._load(batches)
        with tqdm(total=total, desc="videos", unit="video", disable=not self._bars) as bar:
            for batch in batches:
                with self._timing("text"):
                    features = all_features or TextFeatures(encoder, _texts((batch,)))
                clips = pipeline.generate(batch.jobs, features, progress=self._bars)
                self.seconds["denoising"] += clips[0].denoising_seconds
                self.seconds["decoding"] += sum(clip.decoding_seconds for clip in clips)
                for job, clip in zip(batch.jobs, clips, strict=True):
                    if job.path in batch.wanted:
                        self._save(job, clip, len(batch.jobs))
                        bar.update()
        return total

    def _load(self, batches: Sequence[Batch]) -> tuple[Pipeline, TextEncoder, TextFeatures | None]:
        """Load the models.

        With `text_encoder.offload` the features of all texts are returned too, and the weights of the text
        encoder were freed before the others were loaded.
        """
        import torch

        from opensora_adacache.generation.loading import DTYPES, load_text_encoder, load_transformer, load_vae
        from opensora_adacache.generation.pipeline import Pipeline
        from opensora_adacache.generation.text_features import TextFeatures

        config, dtype = self.config, DTYPES[self.config.dtype]
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", self.group.local_rank)
        self._device = describe_device(device)
        with self._timing("loading"):
            encoder = load_text_encoder(config.text_encoder, dtype, device)
        features = None
        if config.text_encoder.offload:
            with self._timing("text"):
                features = TextFeatures(encoder, _texts(batches))
            encoder.release()
        with self._timing("loading"):
            transformer = load_transformer(config.model, dtype, device)
            encoder.attach_null(transformer.y_embedder.y_embedding)
            vae = load_vae(config.vae, dtype, device)
        return Pipeline(config, transformer, vae, device), encoder, features

    def finish(self) -> None:
        """Wait for the other processes and write ``run.json``."""
        self.seconds["total"] = time.perf_counter() - self._begin
        seconds = self.group.gather(self.seconds)
        if self.group.is_first:
            self._write_run("complete", seconds)

    def interrupt(self) -> RunInterrupted:
        """Note in ``run.json`` that the run was interrupted, and return what to tell the user."""
        self.note("interrupted")
        finished = sum(job.path.exists() for job in self.jobs)
        again = "the same command without --overwrite" if self.config.overwrite else "the same command again"
        return RunInterrupted(
            f"interrupted: {finished} of {len(self.jobs)} videos are finished in '{self.config.save_dir}'; run "
            f"{again} to make the rest"
        )

    def note(self, state: str) -> None:
        """Note in ``run.json``, if it can be written, how a run ended that did not run through."""
        self.seconds["total"] = time.perf_counter() - self._begin
        if self.group.is_first:
            with contextlib.suppress(OSError):
                self._write_run(state, [self.seconds])

    def _save(self, job: VideoJob, clip: Clip, batch_size: int) -> None:
        """Write a video and, before it, its record."""
        traces = [trace_to_json(trace) for trace in clip.traces]
        num_steps = self.config.scheduler.num_sampling_steps * self.config.loop
        computed = sum(len(computed_steps(trace)) for trace in clip.traces) if traces else num_steps
        result = {
            "num_steps": num_steps,
            "computed_steps": computed,
            "batch_size": batch_size,
            "seconds": {"denoising": clip.denoising_seconds, "decoding": clip.decoding_seconds},
            "peak_cache_bytes": clip.peak_cache_bytes,
            "traces": traces,
        }
        frames = add_watermark(clip.frames) if self.config.watermark else clip.frames
        write_record(job, self.config, result)
        if self.config.makes_images:
            write_image(job.path, frames)
        else:
            write_video(job.path, frames, self.config.save_fps)
        self._show(job, clip)

    def _show(self, job: VideoJob, clip: Clip) -> None:
        if not self._shows:
            return
        from tqdm import tqdm

        done = "; ".join(summarize(trace) for trace in clip.traces)
        done = done or f"computed every step in {clip.denoising_seconds:.2f} s"
        tqdm.write(f"{job.path}: {done}")
        if self.config.verbose > 1:
            tqdm.write(f"  {job.prompt}")

    @contextlib.contextmanager
    def _timing(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin

    def _write_run(self, state: str, seconds: Sequence[dict[str, float]]) -> None:
        write_run(self.config, self.jobs, state, self._device, seconds)


def _texts(batches: Iterable[Batch]) -> list[str]:
    return [text for batch in batches for job in batch.jobs for text in job.texts]
