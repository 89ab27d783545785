"""Plan which videos of a run remain to be made, and which are denoised together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opensora_adacache.config.settings import RunConfig
from opensora_adacache.errors.family import RecordError, WriteError
from opensora_adacache.generation.description import find_difference
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.records import read_record


@dataclass(frozen=True)
class Batch:
    """Videos that are denoised together.

    Attributes:
        jobs: jobs of all videos in the batch.
        wanted: jobs of the videos to write. The others already exist, but the batch decides together.
    """

    jobs: tuple[VideoJob, ...]
    wanted: frozenset[Path]

    @property
    def texts(self) -> list[str]:
        """The texts of all loops of all jobs."""
        return [text for job in self.jobs for text in job.texts]

    @property
    def name(self) -> str:
        """Name of its first video that is wanted, for messages."""
        return next(job.path.name for job in self.jobs if job.path in self.wanted)

    def cost(self, config: RunConfig) -> float:
        """Return its expected cost: planned steps times pixels, which tokens are in proportion to, of all videos.

        A policy that decides during the run is taken to compute every step.
        """
        num_steps = config.num_sampling_steps
        planned = config.cache.fixed_steps(num_steps) if config.cache else None
        height, width = config.image_size or (1, 1)
        num_pixels = (config.num_frames or 1) * height * width
        return len(self.jobs) * config.num_clips * num_pixels * (num_steps if planned is None else len(planned))


def plan_batches(jobs: Sequence[VideoJob], config: RunConfig) -> list[Batch]:
    """Return the batches with unfinished videos.

    Batches are cut from the whole list, whether or not videos are finished. A resumed run, and one shared between
    processes, therefore makes the same batches as an uninterrupted one. Finished videos are left out of their batch,
    unless the batch decides together.

    Raises:
        WriteError: a folder has the name of a video or of its record.
        RecordError: an existing video was made with different settings, its record cannot be read, or the record of
            another file, such as an image of the same number, has its name.
    """
    for job in jobs:
        _check_files(job)
    unfinished = frozenset(job.path for job in jobs if config.overwrite or not is_finished(job, config))
    batches = []
    for start in range(0, len(jobs), config.batch_size):
        members = tuple(jobs[start : start + config.batch_size])
        wanted = frozenset(job.path for job in members if job.path in unfinished)
        if wanted:
            kept = members if config.decides_per_batch else tuple(job for job in members if job.path in wanted)
            batches.append(Batch(kept, wanted))
    return batches


def _check_files(job: VideoJob) -> None:
    for path in (job.path, job.record_path):
        if path.is_dir():
            raise WriteError(f"cannot write '{path}': it is a folder; move it, or choose another --save-dir")
    try:
        other = job.path.with_name(read_record(job.record_path).video)
    except (OSError, ValueError):  # `is_finished` says so where it matters
        return
    if other != job.path and other.exists():
        raise RecordError(
            f"'{job.record_path}' is the record of '{other.name}', and that of '{job.path.name}' would replace it; "
            "choose another --save-dir or --sample-name"
        )


def is_finished(job: VideoJob, config: RunConfig) -> bool:
    """Return whether the video of a job exists and was made with the settings of this run.

    A video without a record was not made by this package. It counts as finished, so that nothing is overwritten
    without asking. A file that does not match its record was truncated or changed by something else, and does not
    count as finished (see `set_aside`).

    Raises:
        RecordError: it was made with different settings, or its record cannot be read.
    """
    if not job.path.exists():
        return False
    try:
        record = read_record(job.record_path)
    except FileNotFoundError:
        return True
    except ValueError as error:
        raise RecordError(f"{error} with --overwrite, or delete the record to keep the video as it is") from None
    if not record.is_of(job.path):
        return False
    difference = find_difference(record.settings, record.version, job, config)
    if difference:
        raise RecordError(
            f"'{job.path}' was made with different settings ({difference}); pass --overwrite to make it again, or "
            "--save-dir for another folder"
        )
    return True


def set_aside(path: Path) -> Path:
    """Rename a file that does not match its record, so that making the video again does not destroy it.

    Returns:
        Its new path: the name followed by ``.old``, and by a number if that name is taken.
    """
    number, aside = 1, path.with_name(f"{path.name}.old")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.old{number}")
    return path.rename(aside)
