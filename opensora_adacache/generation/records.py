"""Read and write the records of a run: one beside each video, and ``run.json`` for the whole run.

Both are JSON objects with a version. Files without one have version 1, which has no digest of the video and lists only
some of the settings (`generation.description`); it can still be read.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from opensora_adacache import __version__
from opensora_adacache.config.section import convert
from opensora_adacache.errors.family import RecordError

VERSION = 2
RUN_NAME = "run.json"
_PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "mmengine-lite",
    "mmengine",
    "einops",
    "av",
    "safetensors",
)
# Fields of a video's record that run.json repeats.
_LISTED = (
    *("video", "prompt", "seed", "index", "sample"),
    *("num_steps", "computed_steps", "seconds", "peak_cache_bytes"),
)

_Record = TypeVar("_Record", "VideoRecord", "RunRecord")


@dataclass(frozen=True)
class FileDigest:
    """Digest of a file's content, which shows whether a record belongs to the file beside it."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes | memoryview | Path) -> FileDigest:
        """Return the digest of bytes, or of the file at a path."""
        content = content.read_bytes() if isinstance(content, Path) else content
        return cls(len(content), sha256(content).hexdigest())


@dataclass(frozen=True, kw_only=True)
class VideoRecord:
    """The record beside a video: what it was made from, and measurements of the run.

    Attributes:
        version: version of the format.
        video: name of the video file beside the record.
        file: digest of the video file; None in version 1.
        run: identifier of the run that made it, as in ``run.json``; None in version 1.
        prompt: prompt as written, without options.
        seed: seed of the random stream.
        index: index of the prompt.
        sample: number of the video among those of the same prompt.
        settings: everything that the pixels depend on (`generation.description.describe`).
        num_steps: number of denoising steps of all its traces, or of all calls of a pipeline's transformers.
        computed_steps: number of computed steps.
        batch_size: number of videos that were denoised together.
        seconds: seconds of denoising (for the whole batch) and of decoding.
        peak_cache_bytes: peak size of the cached residuals of the whole batch.
        traces: records of the steps of each run that made it (see `Clip.traces`); empty without a cache.
        branches: name of each trace, such as "transformer cond"; empty if the traces are those of loops.
    """

    version: int = VERSION
    video: str
    file: FileDigest | None = None
    run: str | None = None
    prompt: str
    seed: int
    index: int
    sample: int
    settings: dict[str, Any]
    num_steps: int
    computed_steps: int
    batch_size: int = 1
    seconds: dict[str, float]
    peak_cache_bytes: int
    traces: list[Any] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_name(self.video)
        if not {"denoising", "decoding"} <= self.seconds.keys():
            raise RecordError("seconds must hold denoising and decoding")
        for trace in self.traces:
            if not isinstance(trace, list) or not all(isinstance(step, dict) for step in trace):
                raise RecordError("traces must be lists of steps")

    def is_of(self, path: Path) -> bool:
        """Return whether the file at a path matches the record. Without a digest (version 1) this is unknown."""
        if self.file is None:
            return True
        return path.stat().st_size == self.file.size and FileDigest.of(path) == self.file


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """``run.json``: a run with its config, versions, device, timings and videos.

    Attributes:
        version: version of the format.
        run: identifier of this run among those that wrote to the folder; None in version 1.
        state: "running", "complete", "interrupted" or "failed".
        config_file: path of the config.
        config: all values of the config.
        versions: versions of this package, Python and the packages that videos depend on.
        device: type and name of the device; see `describe_device`.
        num_processes: number of processes that shared the run.
        seconds: timings of each process that made videos.
        num_videos: number of videos of the run.
        num_finished: number of finished videos; for a run that overwrites, of those it made itself.
        failed: names of videos that could not be made -> reason.
        videos: for each finished video, the fields of its record that are repeated here.
    """

    version: int = VERSION
    run: str | None = None
    state: str
    config_file: str
    config: dict[str, Any]
    versions: dict[str, str]
    device: dict[str, Any]
    num_processes: int
    seconds: list[Any]
    num_videos: int
    num_finished: int
    failed: dict[str, str] = field(default_factory=dict)
    videos: list[Any]

    def __post_init__(self) -> None:
        for entry in self.videos:
            if not isinstance(entry, dict) or not isinstance(entry.get("video"), str):
                raise RecordError("videos must be a list of records")
            _check_name(entry["video"])


def to_json(record: VideoRecord | RunRecord) -> bytes:
    """Return a record as JSON. Numbers that are not finite become null, because JSON cannot represent them.

    Names of files that are not UTF-8 keep their bytes as JSON's escapes.
    """
    text = json.dumps(_finite(asdict(record)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")


def from_json(kind: type[_Record], content: bytes) -> _Record:
    """Return the record that `to_json` wrote.

    Raises:
        RecordError: the text is not such a record, or has a newer version. The message is one line.
    """
    try:
        values = json.loads(content)
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError:  # includes bytes that are not valid text
        raise RecordError("it is not valid JSON") from None
    if not isinstance(values, dict):
        raise RecordError(f"expected a JSON object, got {type(values).__name__}")
    values = {"version": 1, **values}
    if not isinstance(values["version"], int) or values["version"] > VERSION:
        raise RecordError(f"its version is {values['version']!r}, but this package reads versions up to {VERSION}")
    hints, known = get_type_hints(kind), {}
    for each in fields(kind):
        if each.name in values:
            known[each.name] = convert(values[each.name], hints[each.name], each.name)
    try:
        return kind(**known)
    except TypeError as error:
        raise RecordError(f"a key is missing ({str(error).partition(': ')[2] or error})") from None


def record_path(video: Path) -> Path:
    """Return the path of the record beside a video.

    >>> record_path(Path("out/sample_0000.mp4")).name
    'sample_0000.json'
    """
    return video.with_name(f"{video.stem}.json")


def read_record(path: Path) -> VideoRecord:
    """Read the record of a video.

    Raises:
        OSError: the file does not exist or cannot be read.
        RecordError: the file is not such a record.
    """
    try:
        return from_json(VideoRecord, path.read_bytes())
    except ValueError as error:
        raise RecordError(f"'{path}' is not the record of a video ({error}); make the video again") from None


def read_run(folder: Path) -> RunRecord:
    """Read ``run.json`` in a folder.

    Raises:
        OSError: the file does not exist or cannot be read.
        RecordError: the file is not what a run writes.
    """
    path = folder / RUN_NAME
    try:
        return from_json(RunRecord, path.read_bytes())
    except ValueError as error:
        raise RecordError(f"'{path}' is not the record of a run ({error}); make the run again") from None


def list_videos(records: Sequence[VideoRecord]) -> list[dict[str, Any]]:
    """Return the fields of each video's record that ``run.json`` repeats."""
    return [{name: getattr(record, name) for name in _LISTED} for record in records]


def describe_device(device: Any) -> dict[str, Any]:
    """Return the type and name of a torch device, and for the CPU the number of threads."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = platform.processor() or platform.machine()
    return {"type": device.type, "name": name, "cpu_threads": torch.get_num_threads()}


def merge_devices(devices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one description of several devices. Where they differ, their values are joined.

    >>> merge_devices([{"type": "cuda", "name": "A100"}, {"type": "cuda", "name": "H100"}])
    {'type': 'cuda', 'name': 'A100, H100'}
    """
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for device in devices for key in device):
        values = list(dict.fromkeys(device[key] for device in devices if key in device))
        merged[key] = values[0] if len(values) == 1 else ", ".join(map(str, values))
    return merged


def installed_versions() -> dict[str, str]:
    """Return the versions of this package, Python and the packages that videos depend on."""
    versions = {"opensora-adacache": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _check_name(video: str) -> None:
    if video in ("", ".", "..") or Path(video).name != video or "\0" in video:
        raise RecordError(f"video must be the name of a file in the same folder, got {video!r}")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
