"""Make the videos of a run: skip existing videos, let an executor make the others, and record the whole."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opensora_adacache.caching.team import Team
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.errors.family import ConfigError, VideoError
from opensora_adacache.generation.alike import check_alike
from opensora_adacache.generation.batches import Batch
from opensora_adacache.generation.display import Display
from opensora_adacache.generation.displays import choose_display
from opensora_adacache.generation.executors import choose_executor
from opensora_adacache.generation.folder import RunFolder, warn
from opensora_adacache.generation.interrupts import Interrupts
from opensora_adacache.generation.jobs import plan_jobs
from opensora_adacache.generation.making import BatchMaker, VideoReport, WorkerMaking, no_seconds
from opensora_adacache.generation.memory import check_memory, memory_error
from opensora_adacache.generation.reference_latents import check_references
from opensora_adacache.parallel import ProcessGroup
from opensora_adacache.parallel.executor import InProcess, Lost, Maker, MakerFactory, Work


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run.

    Attributes:
        num_made: number of videos made by this process and its workers.
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
        config: config of the run. Its section ``executor`` says which processes make the videos.
        group: the processes that share a run without an executor. None means a single process.

    Raises:
        ValueError: a prompt, reference, checkpoint or existing file does not fit the config, memory is too small, or a
            video could not be made.
        OSError: something cannot be read, downloaded or written, another run is writing to the folder, or all workers
            died.
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
        display = choose_display(config, shows=group.is_first)
        progress = _Progress(config, group, team, folder, display)
        batches = group.on_first(folder.prepare)
        wanted = sum(len(batch.wanted) for batch in batches)
        summary = RunSummary(0, len(jobs) - wanted, len(jobs), save_dir)
        if not batches:
            return summary
        try:
            with _watch(team, group, folder, display):
                progress.check(batches)
                progress.make(batches)
                progress.finish()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or interrupts.came:
                progress.note("interrupted")
                raise RunInterrupted(folder.how_to_go_on()) from None
            progress.note("failed")
            if explained := memory_error(error):
                raise explained from error
            raise
    return replace(summary, num_made=len(progress.made))


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


def _watch(
    team: Team, group: ProcessGroup, folder: RunFolder, display: Display
) -> contextlib.AbstractContextManager[object]:
    """End this process in order when another one of its team ends."""

    def explain(rank: int) -> str:
        display.close()
        return folder.how_to_go_on(f"process {rank} ended or does not answer")

    if team.size == 1:
        return contextlib.nullcontext()
    from opensora_adacache.parallel.watch import Watch

    first = group.rank // team.size * team.size
    return Watch(range(first, first + team.size), group.rank, explain)


class _Progress:
    """What this process knows of a run.

    Attributes:
        made: names of the videos that were made.
        failed: names of videos that could not be made -> reason.
    """

    def __init__(self, config: RunConfig, group: ProcessGroup, team: Team, folder: RunFolder, display: Display) -> None:
        self.config = config
        self.group = group
        self.team = team
        self.folder = folder
        self.display = display
        self.made: set[str] = set()
        self.failed: dict[str, str] = {}
        self._seconds: dict[int, dict[str, float]] = {}  # of each process that made videos for this one
        self._devices: dict[str, dict[str, Any]] = {}
        self._told: set[str] = set()
        self._lost = False
        self._executor = choose_executor(config.executor, group, team.size, display.say, warn)
        if config.decodes_ahead and not isinstance(self._executor, InProcess):
            warn("vae.decode_ahead has no effect with an executor: a worker finishes a batch before it gets the next")

    def check(self, batches: Sequence[Batch]) -> None:
        """Check that the folder is writable, the frames fit into memory and the references can be read."""
        if self.group.is_first:
            self._write("running", self._timings)
        check_memory(self.config)
        if isinstance(self.config, OpenSoraConfig):
            used = {(job.references, job.masks) for batch in batches for job in batch.jobs}
            for references, masks in sorted(used, key=str):
                check_references(references, masks, self.config)

    def make(self, batches: Sequence[Batch]) -> None:
        """Make the videos of the batches, or this process's part of them."""
        work = [Work(batch.name, batch.cost(self.config), batch) for batch in batches]
        total = sum(len(batch.wanted) for batch in self.group.share(batches, self.team.size))
        outcomes = self._executor.run(work, self._factory)
        in_workers = not isinstance(self._executor, InProcess)
        with self.display.videos(total, in_workers), contextlib.closing(outcomes):
            for outcome in outcomes:
                if isinstance(outcome, Lost):
                    lost = [path.name for path in outcome.work.item.wanted if path.name not in self.made]
                    self.failed |= dict.fromkeys(lost, outcome.reason)
                    self._lost = True
                    self.display.advance(len(lost))
                else:
                    self._seconds[outcome.worker] = outcome.result.seconds
                    self.display.advance(self._take(outcome.result))
        if in_workers:
            self.folder.tidy()

    def finish(self) -> None:
        """Wait for the other processes and write ``run.json``.

        Raises:
            VideoError: a video could not be made.
        """
        seconds, failed = zip(*self.group.gather((self._timings, self.failed)), strict=True)
        self.failed = {name: reason for part in failed for name, reason in part.items()}
        if self.group.is_first:
            self._write("failed" if self.failed else "complete", [entry for part in seconds for entry in part])
        if self.failed:
            name, reason = min(self.failed.items())
            remedy = "Free memory or pass fewer --workers" if self._lost else "Try another --dtype or checkpoint"
            raise VideoError(
                f"{len(self.failed)} of {len(self.folder.jobs)} videos could not be made and were not written, such as "
                f"'{name}' ({reason}); the others are in '{self.config.save_dir}'. {remedy}"
            )

    def note(self, state: str) -> None:
        """Record in ``run.json``, if it is writable, how an incomplete run ended."""
        if self.group.is_first:
            with contextlib.suppress(OSError, KeyboardInterrupt):
                self._write(state, self._timings)

    @property
    def _timings(self) -> list[dict[str, float]]:
        return [self._seconds[worker] for worker in sorted(self._seconds)] or [no_seconds()]

    @property
    def _factory(self) -> MakerFactory[Batch, VideoReport]:
        if not isinstance(self._executor, InProcess):
            return WorkerMaking(self.config, self.folder.run)

        def load(batches: Sequence[Batch], gpu: int) -> AbstractContextManager[Maker[Batch, VideoReport]]:
            return BatchMaker(self.config, self.folder, gpu, self.team, warn, self.display).loaded(batches)

        return load

    def _take(self, report: VideoReport) -> int:
        """Note a report, print a line about it, and return how many videos it adds."""
        self._devices.setdefault(str(report.device), report.device)
        for line in report.warnings:
            if line not in self._told:  # many workers warn of the same
                self._told.add(line)
                warn(line)
        if not self.team.leads or report.name in self.made or report.name in self.failed:
            return 0
        if report.defect:
            self.failed[report.name] = report.defect
            warn(report.line)
            return 1
        self.made.add(report.name)
        self.display.say(report.line)
        if self.config.verbose > 1:
            self.display.say(f"  {report.prompt}")
        return 1

    def _write(self, state: str, seconds: Sequence[dict[str, float]]) -> None:
        self.folder.write_run(state, list(self._devices.values()), seconds, self.failed)
