"""Read finished runs and compare them video by video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from opensora_adacache.errors.family import MissingFileError, RecordError
from opensora_adacache.generation import records
from opensora_adacache.generation.records import RUN_NAME, VideoRecord, record_path
from opensora_adacache.media.reading import read_video
from opensora_adacache.metrics.quality import psnr


@dataclass(frozen=True)
class FinishedVideo:
    """One finished video.

    Attributes:
        path: path of the video file.
        prompt: prompt as written.
        seed: seed of its random stream.
        num_steps: number of denoising steps.
        computed_steps: number of computed steps.
        denoising_seconds: duration of the denoising loop in seconds.
        peak_cache_bytes: peak size of the cached residuals in bytes.
        schedule: whether each step was computed.
    """

    path: Path
    prompt: str
    seed: int
    num_steps: int
    computed_steps: int
    denoising_seconds: float
    peak_cache_bytes: int
    schedule: tuple[bool, ...]


@dataclass(frozen=True)
class ComparedVideo:
    """A video compared with the baseline video of the same prompt and seed.

    Attributes:
        record: record of the video.
        psnr: PSNR in dB against the baseline video, both decoded from their 8-bit files; None for the baseline itself.
        speedup: denoising seconds of the baseline video divided by those of this video.
    """

    record: FinishedVideo
    psnr: float | None
    speedup: float


@dataclass(frozen=True)
class ComparedRun:
    """A run compared with the baseline."""

    name: str
    videos: tuple[ComparedVideo, ...]

    @property
    def computed_steps(self) -> float:
        """Mean number of computed steps."""
        return fmean(video.record.computed_steps for video in self.videos)

    @property
    def denoising_seconds(self) -> float:
        """Total duration of the denoising loops in seconds."""
        return sum(video.record.denoising_seconds for video in self.videos)

    @property
    def psnr(self) -> float | None:
        """Mean PSNR in dB against the baseline, or None for the baseline itself."""
        values = [video.psnr for video in self.videos if video.psnr is not None]
        return fmean(values) if values else None

    @property
    def peak_cache_bytes(self) -> int:
        """Largest size in bytes of the cached residuals of any video."""
        return max(video.record.peak_cache_bytes for video in self.videos)


def read_run(folder: Path) -> list[FinishedVideo]:
    """Read the videos that a folder's ``run.json`` lists, in its order.

    Raises:
        MissingFileError: the folder holds no run, or a video of the run is missing.
        RecordError: a file was not written by a run.
    """
    try:
        run = records.read_run(folder)
    except FileNotFoundError:
        raise MissingFileError(
            f"'{folder / RUN_NAME}' does not exist; name a folder that run_sample_video.sh wrote"
        ) from None
    found = []
    for entry in run.videos:
        path = folder / entry["video"]
        if not path.is_file():
            raise MissingFileError(f"'{path}' is listed in {RUN_NAME} but does not exist; make the run again")
        found.append(_finished_video(path, records.read_record(record_path(path))))
    if not found:
        raise RecordError(f"the run in '{folder}' has no finished video yet; let it finish first")
    return found


def compare(folders: list[Path]) -> list[ComparedRun]:
    """Compare runs with the first one, the baseline. Videos are paired by prompt and seed.

    Raises:
        ValueError: the prompts, seeds or video sizes of a run differ from those of the baseline.
    """
    runs = [(folder.name, read_run(folder)) for folder in folders]
    (base_name, base), *_ = runs
    frames = [read_video(record.path) for record in base]
    compared = [ComparedRun(base_name, tuple(ComparedVideo(record, None, 1.0) for record in base))]
    for name, others in runs[1:]:
        if [(r.prompt, r.seed) for r in others] != [(r.prompt, r.seed) for r in base]:
            raise ValueError(f"'{name}' and '{base_name}' differ in prompts or seeds; make both with the same ones")
        videos = []
        for record, reference, original in zip(others, base, frames, strict=True):
            speedup = reference.denoising_seconds / record.denoising_seconds
            videos.append(ComparedVideo(record, psnr(read_video(record.path), original), speedup))
        compared.append(ComparedRun(name, tuple(videos)))
    return compared


def format_table(runs: list[ComparedRun]) -> str:
    """Return the comparison as a text table."""
    header = ("run", "computed steps", "loop s", "speedup", "PSNR dB", "cache MB")
    rows = [header]
    for run in runs:
        num_steps = run.videos[0].record.num_steps
        rows.append(
            (
                run.name,
                f"{run.computed_steps:.1f} of {num_steps}",
                f"{run.denoising_seconds:.2f}",
                f"{runs[0].denoising_seconds / run.denoising_seconds:.2f}x",
                "-" if run.psnr is None else f"{run.psnr:.1f}",
                f"{run.peak_cache_bytes / 1e6:.2f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _finished_video(path: Path, record: VideoRecord) -> FinishedVideo:
    if not record.is_of(path):
        raise RecordError(f"'{path}' does not match its record; make the run again")
    steps = [bool(step.get("computed")) for trace in record.traces for step in trace]
    return FinishedVideo(
        path=path,
        prompt=record.prompt,
        seed=record.seed,
        num_steps=record.num_steps,
        computed_steps=record.computed_steps,
        denoising_seconds=record.seconds["denoising"],
        peak_cache_bytes=record.peak_cache_bytes,
        schedule=tuple(steps) if steps else (True,) * record.num_steps,
    )
