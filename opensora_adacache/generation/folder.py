"""The output folder of a run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opensora_adacache.config.settings import RunConfig
from opensora_adacache.errors.family import FolderInUseError
from opensora_adacache.generation.batches import Batch, plan_batches, set_aside
from opensora_adacache.generation.description import first_difference, plain
from opensora_adacache.generation.interrupts import Interrupts
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.lock import FolderLock
from opensora_adacache.generation.previews import remove_preview
from opensora_adacache.generation.records import (
    RUN_NAME,
    RunRecord,
    VideoRecord,
    installed_versions,
    list_videos,
    merge_devices,
    read_record,
    read_run,
    to_json,
)
from opensora_adacache.generation.saving import finish_interrupted, record_of, save
from opensora_adacache.media.files import write_file
from opensora_adacache.media.watermark import add_watermark
from opensora_adacache.media.writing import encode_image, encode_video

if TYPE_CHECKING:
    from opensora_adacache.generation.clip import Clip


class RunFolder:
    """The output folder: videos with their records, ``run.json``, and a lock that admits one run at a time.

    Args:
        config: config of the run.
        jobs: jobs of the run.
        run: identifier of the run, the same in all its processes.
        interrupts: signals, which are held back while a video is renamed.
    """

    def __init__(self, config: RunConfig, jobs: Sequence[VideoJob], run: str, interrupts: Interrupts) -> None:
        self.config = config
        self.jobs = jobs
        self.run = run
        self._interrupts = interrupts
        self._lock = FolderLock(config.save_dir)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def prepare(self) -> list[Batch]:
        """Lock the folder, finish or remove what killed runs left in it, and plan the videos to make.

        Only one process of a run does this.

        Raises:
            OSError: another run is writing to the folder, or it is not writable.
            ValueError: see `plan_batches`.
        """
        try:
            self._lock.acquire()
        except FolderInUseError:
            raise
        except OSError:  # the folder is not writable, which is an error only if something must be written
            if batches := plan_batches(self.jobs, self.config):
                raise
            return batches
        self.tidy()
        batches = plan_batches(self.jobs, self.config)
        if not self.config.overwrite:
            for path in sorted(path for batch in batches for path in batch.wanted if path.exists()):
                warn(f"'{path}' does not match its record; it is kept as '{set_aside(path)}'")
        if not batches:
            self._complete()
        return batches

    def save(self, job: VideoJob, clip: Clip, batch_size: int) -> None:
        """Write a video and its record.

        Raises:
            OSError: the folder is not writable, the disk is full, or another run has taken over the folder.
        """
        record = record_of(job, clip, self.config, self.run, batch_size)
        frames = add_watermark(clip.frames) if self.config.watermark else clip.frames
        content = encode_image(frames) if self.config.makes_images else encode_video(frames, self.config.save_fps)
        self._lock.check()
        with self._interrupts.held():
            save(job.path.parent, content, record)

    def tidy(self) -> None:
        """Remove what processes that died have left in the folder. No other process may be writing to it."""
        finish_interrupted(self.config.save_dir)
        for job in self.jobs:
            remove_preview(job.path)

    def finished(self) -> list[VideoRecord | None]:
        """Return the records of the finished videos, with None for a video of unknown origin.

        For a run that overwrites, these are only the videos that it made itself.
        """
        found: list[VideoRecord | None] = []
        for job in self.jobs:
            record = None
            if job.path.exists():
                with contextlib.suppress(OSError, ValueError):
                    record = read_record(job.record_path)
                if not self.config.overwrite or (record and record.run == self.run):
                    found.append(record)
        return found

    def write_run(
        self,
        state: str,
        devices: Sequence[dict[str, Any]],
        seconds: Sequence[Mapping[str, float]],
        failed: Mapping[str, str],
    ) -> None:
        """Write ``run.json``.

        Args:
            state: "running", "complete", "interrupted" or "failed".
            devices: devices of the processes, from `records.describe_device`.
            seconds: timings of each process.
            failed: names of videos that could not be made -> reason.

        Raises:
            OSError: the folder is not writable or the disk is full.
        """
        finished = self.finished()
        record = RunRecord(
            run=self.run,
            state=state,
            config_file=str(self.config.path),
            config=plain(self.config),
            versions=installed_versions(),
            device=merge_devices(devices),
            num_processes=len(seconds),
            seconds=list(seconds),
            num_videos=len(self.jobs),
            num_finished=len(finished),
            failed=dict(failed),
            videos=list_videos([record for record in finished if record]),
        )
        with self._interrupts.held():
            write_file(self.config.save_dir / RUN_NAME, to_json(record))

    def _complete(self) -> None:
        """Mark this run as complete in ``run.json`` if it was killed after its last video."""
        with contextlib.suppress(OSError, ValueError):
            record = read_run(self.config.save_dir)
            # Another run may have had different prompts.
            free = {key: record.config.get(key) for key in ("overwrite", "executor")}
            same = first_difference(record.config, {**plain(self.config), **free}) is None
            if same and record.state != "complete":
                finished = self.finished()
                videos = list_videos([video for video in finished if video])
                record = replace(record, state="complete", num_finished=len(finished), failed={}, videos=videos)
                write_file(self.config.save_dir / RUN_NAME, to_json(record))

    def how_to_go_on(self, reason: str = "interrupted") -> str:
        """Return one line that says what an interrupted run has finished and which command makes the rest."""
        total, folder = len(self.jobs), self.config.save_dir
        finished = self.finished()
        if not self.config.overwrite:
            state = f"{len(finished)} of {total} videos are finished in '{folder}'"
            return f"{reason}: {state}; run the same command again to make the rest"
        made = {record.video for record in finished if record}
        rest = [job for job in self.jobs if job.path.name not in made]
        if not any(job.path.exists() for job in rest):
            advice = "run the same command without --overwrite to make the rest"
        elif self.config.prompt_path:
            advice = f"run the same command with --start-index {rest[0].index} to make the rest again"
        else:
            advice = "run the same command again to make all of them again"
        state = f"{len(made)} of {total} videos were made again in '{folder}' and the others are unchanged"
        return f"{reason}: {state}; {advice}"


def warn(line: str) -> None:
    """Print a warning on stderr, even in quiet runs."""
    print(f"warning: {line}", file=sys.stderr, flush=True)
