"""Write a video and its record so that the two always agree, even if the process is killed.

Both are first written under temporary names. The video counts as made once the temporary record is complete: only two
renames remain, and `finish_interrupted` does them if the process was killed before or between them. Only these renames
replace an old video and its record, so the old files stay if anything fails before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.caching.trace import computed_steps, trace_to_json
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation.description import describe
from opensora_adacache.generation.jobs import VideoJob
from opensora_adacache.generation.records import FileDigest, VideoRecord, from_json, record_path, to_json
from opensora_adacache.media.files import rename, unfinished_files, write_unfinished

if TYPE_CHECKING:
    from opensora_adacache.generation.clip import Clip


def record_of(job: VideoJob, clip: Clip, config: RunConfig, run: str, batch_size: int) -> VideoRecord:
    """Return the record of a video that was made and is not written yet.

    Args:
        job: job of the video.
        clip: the video.
        config: config of its run.
        run: identifier of the run.
        batch_size: number of videos that were denoised together.
    """
    return VideoRecord(
        video=job.path.name,
        run=run,
        prompt=job.prompt,
        seed=job.seed,
        index=job.index,
        sample=job.sample,
        settings=describe(job, config),
        num_steps=clip.num_steps,
        computed_steps=sum(len(computed_steps(trace)) for trace in clip.traces) if clip.traces else clip.num_steps,
        batch_size=batch_size,
        seconds={"denoising": clip.denoising_seconds, "decoding": clip.decoding_seconds},
        peak_cache_bytes=clip.peak_cache_bytes,
        traces=[trace_to_json(trace) for trace in clip.traces],
        branches=list(clip.branches),
    )


def save(folder: Path, content: bytes | memoryview, record: VideoRecord) -> None:
    """Write a video and its record, which gets the digest of the video.

    Raises:
        OSError: the folder is not writable or the disk is full. Existing files are unchanged.
    """
    record = replace(record, file=FileDigest.of(content))
    path = folder / record.video
    video_part = write_unfinished(path, content)
    try:
        record_part = write_unfinished(record_path(path), to_json(record))
    except BaseException:
        video_part.unlink(missing_ok=True)
        raise
    rename(video_part, path)
    rename(record_part, record_path(path))


def finish_interrupted(folder: Path) -> None:
    """Complete the writes of processes that were killed, and remove their temporary files.

    No other run may be writing to the folder.

    Raises:
        OSError: the folder is not writable.
    """
    parts = unfinished_files(folder)
    records: dict[Path, VideoRecord] = {}
    for part in parts:
        try:
            records[part] = from_json(VideoRecord, part.read_bytes())
        except ValueError:  # a video, run.json, or an incomplete record
            continue
    videos = {FileDigest.of(part): part for part in parts if part not in records}
    for part, record in records.items():
        path = folder / record.video
        if record.file in videos:
            rename(videos[record.file], path)
        if record.file is not None and path.is_file() and record.is_of(path):
            rename(part, record_path(path))
    for part in parts:
        part.unlink(missing_ok=True)
