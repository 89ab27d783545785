"""What a run leaves beside its videos: a JSON record for each, and ``run.json`` for the whole."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opensora_adacache import __version__
from opensora_adacache.config.settings import RunConfig
from opensora_adacache.generation.jobs import VideoJob, describe, first_difference
from opensora_adacache.media.files import write_file

RUN_NAME = "run.json"
_PACKAGES = ("torch", "diffusers", "transformers", "mmengine-lite", "mmengine", "einops", "av", "safetensors")
# What run.json repeats of the record of a video.
_LISTED = (
    *("video", "prompt", "seed", "index", "sample"),
    *("num_steps", "computed_steps", "seconds", "peak_cache_bytes"),
)


def is_finished(job: VideoJob, config: RunConfig) -> bool:
    """Tell whether the video of a job is there, made with the settings of this run.

    A video is renamed into place after its record, so where it is, both are whole. A video without a record was
    not made by this package; it counts as finished, so that nothing is overwritten unasked.

    Raises:
        ValueError: it was made with other settings.
    """
    if config.overwrite or not job.path.exists():
        return False
    record = read_record(job)
    difference = first_difference(record["settings"], describe(job, config)) if record else None
    if difference:
        raise ValueError(
            f"'{job.path}' was made with other settings ({difference}); pass --overwrite to make it again, or "
            "--save-dir for another folder"
        )
    return True


def read_record(job: VideoJob) -> dict[str, Any] | None:
    """Return the record beside a video, or None if there is none."""
    try:
        record = json.loads(job.record_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "settings" in record else None


def write_record(job: VideoJob, config: RunConfig, result: dict[str, Any]) -> None:
    """Write the record of a video: what made it (`jobs.describe`) and how it went (`result`).

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    record = {
        "video": job.path.name,
        "prompt": job.prompt,
        "seed": job.seed,
        "index": job.index,
        "sample": job.sample,
        "settings": describe(job, config),
        **result,
    }
    _write_json(job.record_path, record)


def write_run(
    config: RunConfig,
    jobs: Sequence[VideoJob],
    state: str,
    device: dict[str, Any],
    processes: Sequence[dict[str, float]],
) -> None:
    """Write ``run.json``: config, versions, device, timings, and the videos that are finished.

    Args:
        config: of the run.
        jobs: of the run, finished or not.
        state: "running", "complete", "interrupted" or "failed".
        device: name and type, see `describe_device`.
        processes: per process its timings in seconds.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    records = [read_record(job) for job in jobs if job.path.exists()]
    run = {
        "state": state,
        "config_file": str(config.path),
        "config": plain(asdict(config)),
        "versions": _versions(),
        "device": device,
        "num_processes": len(processes),
        "seconds": list(processes),
        "num_videos": len(jobs),
        "num_finished": len(records),
        "videos": [{key: record.get(key) for key in _LISTED} for record in records if record],
    }
    _write_json(config.save_dir / RUN_NAME, run)


def describe_device(device: Any) -> dict[str, Any]:
    """Return type and name of a torch device, and the threads of the CPU."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = platform.processor() or platform.machine()
    return {"type": device.type, "name": name, "cpu_threads": torch.get_num_threads()}


def _versions() -> dict[str, str]:
    versions = {"opensora-adacache": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def plain(value: Any) -> Any:
    """Turn settings into JSON values; thresholds of a codebook become texts, as JSON wants them for keys."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_file(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
