"""Make the videos of batches in one process and report each of them in a few bytes.

A report holds what the first process of a run prints and records. The video itself is in its file.
"""

from __future__ import annotations

import contextlib
import socket
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensora_adacache.caching.team import Team
from opensora_adacache.caching.trace import summarize
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.errors.family import AdaCacheWarning, MissingFileError
from opensora_adacache.errors.shown import one_line
from opensora_adacache.generation.batches import Batch
from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.display import Display, ShowStep
from opensora_adacache.generation.folder import RunFolder
from opensora_adacache.generation.interrupts import Interrupts
from opensora_adacache.generation.previews import Previews
from opensora_adacache.generation.records import describe_device, read_record, read_run
from opensora_adacache.parallel.executor import Maker

if TYPE_CHECKING:
    from opensora_adacache.generation.clip import Clip, ClipMaker, RunModels
    from opensora_adacache.generation.jobs import VideoJob


@dataclass(frozen=True)
class VideoReport:
    """A video that was made, or that could not be made.

    Attributes:
        name: name of its file.
        line: what happened, in a few words.
        prompt: prompt as written.
        defect: why it was not written, or None.
        device: device that made it; see `describe_device`.
        seconds: timings of the process until now.
        warnings: warnings since the last report, in processes that do not print them.
    """

    name: str
    line: str
    prompt: str
    defect: str | None
    device: dict[str, Any]
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()


def no_seconds() -> dict[str, float]:
    """Return the timings of a process that has done nothing."""
    return {"loading": 0.0, "text": 0.0, "denoising": 0.0, "decoding": 0.0, "total": 0.0}


class BatchMaker:
    """Makes videos with models that are loaded once.

    Args:
        config: config of the run.
        folder: folder that the videos are written to.
        gpu: index of the GPU to use if there are any.
        team: the processes that make each video together. The first of them writes it, and all report it.
        warn: function that is called with each warning.
        display: shows what is loaded, and the denoising steps.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        gpu: int,
        team: Team,
        warn: Callable[[str], object],
        display: Display | None = None,
    ) -> None:
        self.config, self.folder, self.gpu, self.team = config, folder, gpu, team
        self._warn, self._display = warn, display or Display()
        self._seconds = no_seconds()
        self._begin = time.perf_counter()

    @contextlib.contextmanager
    def loaded(self, batches: Sequence[Batch]) -> Iterator[Maker[Batch, VideoReport]]:
        """Load the models for any of the batches, and give the function that makes videos."""
        import torch

        from opensora_adacache.generation.models import load_run

        device = torch.device("cuda", self.gpu) if torch.cuda.is_available() else torch.device("cpu")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self._device = describe_device(device)
        jobs = [job for batch in batches for job in batch.jobs]
        models = load_run(self.config, jobs, device, batch_by_batch=True, say=self._display.say, team=self.team)
        self._seconds["loading"] += models.loading_seconds
        self._seconds["text"] += models.encoding_seconds
        with models.maker(self.config) as maker:
            yield partial(self._make, models, maker)

    def _make(self, models: RunModels, maker: ClipMaker, batches: Iterable[Batch]) -> Iterator[VideoReport]:
        from opensora_adacache.generation.decode_ahead import DecodeAhead

        reports: deque[VideoReport] = deque()  # the thread that decodes appends to it
        every = self.config.preview if self.team.leads else None
        with (
            Previews(every, self.config.watermark, self._warn) as previews,
            DecodeAhead(models.device, self.config.decodes_ahead) as decoder,
        ):
            for batch in batches:
                for line in (line for job in batch.jobs for line in models.warnings_of(job)):
                    self._warn(line)
                made = [report for job in batch.jobs if job.path in batch.wanted and (report := self._made_before(job))]
                yield from made
                if len(made) == len(batch.wanted):
                    continue
                done = {report.name for report in made}
                unfinished = [job.path if self._lacks(job, batch, done) else None for job in batch.jobs]
                with self._display.batch(batch) as show_step:

                    def on_step(
                        step: DenoisingStep,
                        show_step: ShowStep = show_step,
                        unfinished: list[Path | None] = unfinished,
                    ) -> None:
                        show_step(step)
                        previews.show(step, unfinished)
                        decoder.check()

                    decode = maker.denoise(batch.jobs, on_step)
                decoder.submit(partial(self._finish, batch, decode, done, reports, previews))
                while reports:
                    yield reports.popleft()
        yield from reports

    def _finish(
        self,
        batch: Batch,
        decode: Callable[[], list[Clip]],
        made: set[str],
        reports: deque[VideoReport],
        previews: Previews,
    ) -> None:
        """Decode a batch and write the videos that are wanted of it, except those in `made`."""
        clips = decode()
        self._seconds["text"] += clips[0].text_seconds
        self._seconds["denoising"] += clips[0].denoising_seconds
        self._seconds["decoding"] += sum(clip.decoding_seconds for clip in clips)
        for job, clip in zip(batch.jobs, clips, strict=True):
            if self._lacks(job, batch, made):
                reports.append(self._save(job, clip, len(batch.jobs)))
                previews.remove([job.path])

    def _lacks(self, job: VideoJob, batch: Batch, made: set[str]) -> bool:
        """Return whether the video of a job is still to be written."""
        return job.path in batch.wanted and job.path.name not in made

    def _save(self, job: VideoJob, clip: Clip, batch_size: int) -> VideoReport:
        """Write a video, unless it is defective or another process of the team writes it."""
        if clip.defect:
            return self._report(job, f"'{job.path}' is not written: {clip.defect}", clip.defect)
        if self.team.leads:
            self.folder.save(job, clip, batch_size)
        done = "; ".join(summarize(trace) for trace in clip.traces)
        return self._report(job, f"{job.path}: {done or f'computed every step in {clip.denoising_seconds:.2f} s'}")

    def _made_before(self, job: VideoJob) -> VideoReport | None:
        """Report a video that a worker of this run has written before it died."""
        try:
            record = read_record(job.record_path)
        except (OSError, ValueError):
            return None
        if record.run != self.folder.run or not job.path.exists() or not record.is_of(job.path):
            return None
        return self._report(job, f"{job.path}: computed {record.computed_steps} of {record.num_steps} steps")

    def _report(self, job: VideoJob, line: str, defect: str | None = None) -> VideoReport:
        self._seconds["total"] = time.perf_counter() - self._begin
        return VideoReport(job.path.name, line, job.prompt, defect, self._device, dict(self._seconds))


@dataclass(frozen=True)
class WorkerMaking:
    """Makes videos in a worker of an executor (see `parallel.executor.MakerFactory`).

    Attributes:
        config: config of the run.
        run: identifier of the run.
    """

    config: RunConfig
    run: str

    @contextlib.contextmanager
    def __call__(self, batches: Sequence[Batch], gpu: int) -> Iterator[Maker[Batch, VideoReport]]:
        """Load the models; see `BatchMaker.loaded`.

        Raises:
            MissingFileError: this machine does not see the folder of the run.
        """
        self._check_folder()
        told: list[str] = []
        with Interrupts() as interrupts, _collecting_warnings(told):
            folder = RunFolder(self.config, (), self.run, interrupts)
            with BatchMaker(self.config, folder, gpu, Team(), told.append).loaded(batches) as make:

                def make_and_tell(batches: Iterable[Batch]) -> Iterator[VideoReport]:
                    for report in make(batches):
                        yield replace(report, warnings=tuple(told))
                        told.clear()

                yield make_and_tell

    def _check_folder(self) -> None:
        """Check that the folder here is the one that the run has just written ``run.json`` to."""
        try:
            found = read_run(self.config.save_dir).run
        except (OSError, ValueError):
            found = None
        if found != self.run:
            raise MissingFileError(
                f"'{self.config.save_dir}' on {socket.gethostname()} is not the folder of this run; all machines need "
                "a file system that they share: choose a --save-dir on it"
            )


@contextlib.contextmanager
def _collecting_warnings(told: list[str]) -> Iterator[None]:
    """Add the warnings of this package to a list, and show those of other packages as Python does."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", AdaCacheWarning)
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, AdaCacheWarning):
                told.append(one_line(message))
            else:
                show_others(message, category, *place, **options)

        warnings.showwarning = show
        yield
