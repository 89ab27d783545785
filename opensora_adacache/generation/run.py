"""Make the videos of a run: skip existing videos, load the models once, write each video when it is finished."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensora_adacache.caching.team import Team
from opensora_adacache.caching.trace import summarize
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.errors.family import ConfigError, VideoError
from opensora_adacache.generation.alike import check_alike
from opensora_adacache.generation.batches import Batch
from opensora_adacache.generation.folder import RunFolder, warn
from opensora_adacache.generation.interrupts import Interrupts
from opensora_adacache.generation.jobs import VideoJob, plan_jobs
from opensora_adacache.generation.memory import check_memory, memory_error
from opensora_adacache.generation.records import describe_device
from opensora_adacache.generation.reference_latents import check_references
from opensora_adacache.parallel import ProcessGroup

if TYPE_CHECKING:
    from opensora_adacache.generation.clip import Clip, RunModels


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run.

    Attributes:
        num_made: number of videos made by this process.
        num_skipped: number of videos of the run that existed before.
        num_total: number of videos of the run.
        save_dir: folder of the videos.
    """

    num_made: int
    num_skipped: int
    num_total: int
    save_dir: Path


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a run. The message says in one line what is finished and how to continue."""


def run(config: RunConfig, group: ProcessGroup | None = None) -> RunSummary:
    """Make the videos of a run that do not exist yet.

    Everything that can be checked is checked before the models are loaded. Each video is written with its record as
    soon as it is finished (`generation.saving`); ``run.json`` is written at the start and at the end. Only one run at
    a time can write to a folder (`generation.lock`).

    Args:
        config: config of the run.
        group: the processes that share the run. None means a single process.

    Raises:
        ValueError: a prompt, reference, checkpoint or existing file does not fit the config, memory is too small, or a
            video could not be made.
        OSError: something cannot be read, downloaded or written, or another run is writing to the folder.
        RunInterrupted: Ctrl-C or SIGTERM.
    """
    group = group or ProcessGroup()
    # With logdate_dir, each process has named a folder by its own clock.
    save_dir, name = group.broadcast((config.save_dir, uuid.uuid4().hex))
    config = replace(config, save_dir=save_dir)
    check_alike(config, group)
    team = _join_team(config, group)
    jobs = plan_jobs(config)
    with Interrupts() as interrupts, RunFolder(config, jobs, name, interrupts) as folder:
        batches = group.on_first(folder.prepare)
        wanted = sum(len(batch.wanted) for batch in batches)
        summary = RunSummary(0, len(jobs) - wanted, len(jobs), save_dir)
        if not batches:
            return summary
        worker = _Worker(config, group, team, folder)
        try:
            with _watch(team, group, folder):
                worker.check(batches)
                num_made = worker.make(group.share(batches, team.size))
                worker.finish()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or interrupts.came:
                worker.note("interrupted")
                raise RunInterrupted(folder.how_to_go_on()) from None
            worker.note("failed")
            if explained := memory_error(error):
                raise explained from error
            raise
    return replace(summary, num_made=num_made)


def _join_team(config: RunConfig, group: ProcessGroup) -> Team:
    """Return the processes that make the same videos as this one."""
    if not isinstance(config, OpenSoraConfig) or config.parallel.num_devices == 1:
        return Team()
    settings = config.parallel
    if group.world_size % settings.num_devices:
        raise ConfigError(
            f"parallel.sequence={settings.sequence} and parallel.guidance={settings.guidance} need a multiple of "
            f"{settings.num_devices} processes, got {group.world_size}: start them with torchrun "
            f"--nproc_per_node={settings.num_devices}"
        )
    from opensora_adacache.parallel.team import form_team

    return form_team(settings.sequence, settings.guidance)


def _watch(team: Team, group: ProcessGroup, folder: RunFolder) -> contextlib.AbstractContextManager[object]:
    """End this process in order when another one of its team ends."""
    if team.size == 1:
        return contextlib.nullcontext()
    from opensora_adacache.parallel.watch import Watch

    first = group.rank // team.size * team.size
    ranks = range(first, first + team.size)
    return Watch(ranks, group.rank, lambda rank: folder.how_to_go_on(f"process {rank} ended or does not answer"))


class _Worker:
    """One process's part of a run, its timings and its failures."""

    def __init__(self, config: RunConfig, group: ProcessGroup, team: Team, folder: RunFolder) -> None:
        self.config = config
        self.group = group
        self.team = team
        self.folder = folder
        self.seconds = {"loading": 0.0, "text": 0.0, "denoising": 0.0, "decoding": 0.0, "total": 0.0}
        self.failed: dict[str, str] = {}
        self._begin = time.perf_counter()
        self._shows = group.is_first and config.verbose > 0
        self._bars = self._shows and sys.stderr.isatty()  # progress bars would fill a log file
        self._device: dict[str, Any] = {}

    def check(self, batches: Sequence[Batch]) -> None:
        """Check that the folder is writable, the frames fit into memory and the references can be read."""
        if self.group.is_first:
            self.folder.write_run("running", self._device, [self.seconds], self.failed)
        check_memory(self.config)
        if isinstance(self.config, OpenSoraConfig):
            used = {(job.references, job.masks) for batch in batches for job in batch.jobs}
            for references, masks in sorted(used, key=str):
                check_references(references, masks, self.config)

    def make(self, batches: Sequence[Batch]) -> int:
        """Load the models, make the videos of the batches and return how many were written."""
        if not batches:
            return 0
        from opensora_adacache.generation.decode_ahead import DecodeAhead

        total = sum(len(batch.wanted) for batch in batches)
        models = self._load(batches)
        with (
            models.maker(self.config) as maker,
            self._bar(total, "videos") as videos,
            DecodeAhead(models.device, self.config.decodes_ahead) as decoder,
        ):
            for batch in batches:
                with self._bar(self.config.num_steps, "denoising", leave=False) as steps:

                    def on_step(_: object, steps: Any = steps) -> None:
                        steps.update()
                        decoder.check()

                    decode = maker.denoise(batch.jobs, on_step)
                decoder.submit(partial(self._write, batch, decode, videos))
        return total - len(self.failed) if self.team.leads else 0

    def finish(self) -> None:
        """Wait for the other processes and write ``run.json``.

        Raises:
            VideoError: a video could not be made.
        """
        self.seconds["total"] = time.perf_counter() - self._begin
        seconds, failed = zip(*self.group.gather((self.seconds, self.failed)), strict=True)
        self.failed = {name: reason for part in failed for name, reason in part.items()}
        if self.group.is_first:
            self.folder.write_run("failed" if self.failed else "complete", self._device, seconds, self.failed)
        if self.failed:
            name, reason = min(self.failed.items())
            raise VideoError(
                f"{len(self.failed)} of {len(self.folder.jobs)} videos could not be made and were not written, such as "
                f"'{name}' ({reason}); the others are in '{self.config.save_dir}'. Try another --dtype or checkpoint"
            )

    def note(self, state: str) -> None:
        """Record in ``run.json``, if it is writable, how an incomplete run ended."""
        self.seconds["total"] = time.perf_counter() - self._begin
        if self.group.is_first:
            with contextlib.suppress(OSError, KeyboardInterrupt):
                self.folder.write_run(state, self._device, [self.seconds], self.failed)

    def _load(self, batches: Sequence[Batch]) -> RunModels:
        import torch

        from opensora_adacache.generation.models import load_run

        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", self.group.local_rank)
        self._device = describe_device(device)
        jobs = [job for batch in batches for job in batch.jobs]
        models = load_run(self.config, jobs, device, batch_by_batch=True, say=self._say, team=self.team)
        self.seconds["loading"] += models.loading_seconds
        self.seconds["text"] += models.encoding_seconds
        for line in (line for job in jobs for line in models.warnings_of(job)):
            warn(line)
        return models

    def _write(self, batch: Batch, decode: Callable[[], list[Clip]], videos: Any) -> None:
        """Decode a batch and write the videos that are wanted of it."""
        clips = decode()
        self.seconds["text"] += clips[0].text_seconds
        self.seconds["denoising"] += clips[0].denoising_seconds
        self.seconds["decoding"] += sum(clip.decoding_seconds for clip in clips)
        for job, clip in zip(batch.jobs, clips, strict=True):
            if job.path in batch.wanted and self.team.leads:
                self._save(job, clip, len(batch.jobs))
                videos.update()

    def _save(self, job: VideoJob, clip: Clip, batch_size: int) -> None:
        """Write a video, unless it is defective, and print a line about it."""
        if clip.defect:
            self.failed[job.path.name] = clip.defect
            warn(f"'{job.path}' is not written: {clip.defect}")
            return
        self.folder.save(job, clip, batch_size)
        if self._shows:
            from tqdm import tqdm

            done = "; ".join(summarize(trace) for trace in clip.traces)
            tqdm.write(f"{job.path}: {done or f'computed every step in {clip.denoising_seconds:.2f} s'}")
            if self.config.verbose > 1:
                tqdm.write(f"  {job.prompt}")

    def _say(self, line: str) -> None:
        if self._shows:
            print(line, flush=True)

    def _bar(self, total: int, name: str, leave: bool = True) -> Any:
        from tqdm import tqdm

        return tqdm(total=total, desc=name, leave=leave, disable=not self._bars)
