"""Read finished runs and compare them video by video."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from opensora_adacache.media.reading import read_video
from opensora_adacache.metrics.quality import psnr

RECORD_KEYS = ("video", "prompt", "seed", "num_steps", "computed_steps", "seconds", "peak_cache_bytes", "traces")


@dataclass(frozen=True)
class VideoRecord:
    """One finished video.

    Attributes:
        path: of the file.
        prompt: as written.
        seed: of its random stream.
        num_steps: denoising steps.
        computed_steps: how many of them computed.
        denoising_seconds: length of the denoising loop.
        peak_cache_bytes: the most that cached residuals held.
        schedule: for each step whether it computed.
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
    """A video beside the baseline's of the same prompt and seed.

    Attributes:
        record: the video.
        psnr: in dB to the baseline's, both as decoded from the files, 8 bit; None for the baseline itself.
        speedup: the baseline's denoising seconds over this one's.
    """

    record: VideoRecord
    psnr: float | None
    speedup: float


@dataclass(frozen=True)
class ComparedRun:
    """A run beside the baseline."""

    name: str
    videos: tuple[ComparedVideo, ...]

    @property
    def computed_steps(self) -> float:
        """Mean computed steps."""
        return fmean(video.record.computed_steps for video in self.videos)

    @property
    def denoising_seconds(self) -> float:
        """Sum of the denoising loops."""
        return sum(video.record.denoising_seconds for video in self.videos)

    @property
    def psnr(self) -> float | None:
        """Mean PSNR in dB, or None for the baseline."""
        values = [video.psnr for video in self.videos if video.psnr is not None]
        return fmean(values) if values else None

    @property
    def peak_cache_bytes(self) -> int:
        """The most that cached residuals held for any video."""
        return max(video.record.peak_cache_bytes for video in self.videos)


def read_run(folder: Path) -> list[VideoRecord]:
    """Read the videos that ``run.json`` of a folder names, in its order.

    Raises:
        FileNotFoundError: there is no run in the folder, or a video of it is gone.
        ValueError: a file is not what a run writes.
    """
    run = _read_json(folder / "run.json")
    records = []
    for entry in run.get("videos", []):
        path = folder / entry["video"]
        if not path.is_file():
            raise FileNotFoundError(f"'{path}' is named by run.json but does not exist; make the run again")
        records.append(_video_record(path, _read_json(path.with_suffix(".json"))))
    if not records:
        raise ValueError(f"the run in '{folder}' has no finished video yet; let it finish first")
    return records


def compare(folders: list[Path]) -> list[ComparedRun]:
    """Compare runs with the first one, the baseline, by prompt and seed.

    Raises:
        ValueError: a run has other prompts or seeds than the baseline, or its videos another size.
    """
    runs = [(folder.name, read_run(folder)) for folder in folders]
    (base_name, base), *_ = runs
    frames = [read_video(record.path) for record in base]
    compared = [ComparedRun(base_name, tuple(ComparedVideo(record, None, 1.0) for record in base))]
    for name, records in runs[1:]:
        if [(r.prompt, r.seed) for r in records] != [(r.prompt, r.seed) for r in base]:
            raise ValueError(f"'{name}' and '{base_name}' differ in prompts or seeds; make both with the same ones")
        videos = []
        for record, reference, original in zip(records, base, frames, strict=True):
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"'{path}' does not exist; name a folder that run_sample_video.sh wrote") from None
    except ValueError:
        raise ValueError(f"'{path}' is not valid JSON; make the run again") from None
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' holds no record of a run; make the run again")
    return content


def _video_record(path: Path, record: dict[str, Any]) -> VideoRecord:
    missing = [key for key in RECORD_KEYS if key not in record]
    if missing:
        raise ValueError(f"the record of '{path}' lacks '{missing[0]}'; make the video again with --overwrite")
    steps = [step["computed"] for trace in record["traces"] for step in trace]
    return VideoRecord(
        path=path,
        prompt=record["prompt"],
        seed=record["seed"],
        num_steps=record["num_steps"],
        computed_steps=record["computed_steps"],
        denoising_seconds=record["seconds"]["denoising"],
        peak_cache_bytes=record["peak_cache_bytes"],
        schedule=tuple(steps) if steps else (True,) * record["num_steps"],
    )
