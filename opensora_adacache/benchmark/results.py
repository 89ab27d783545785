"""``results.jsonl``: the rows that a benchmark writes, one for each video.

Each row is one line, appended when its video is finished. An interrupted run can leave an incomplete last line, which
reading drops and the next append overwrites. Any other line that is not a row is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO, get_type_hints

from opensora_adacache.config.section import convert
from opensora_adacache.errors.shown import shown
from opensora_adacache.media.files import write_file
from opensora_adacache.metrics.quality import PSNR_CAP
from opensora_adacache.scenes.words import SPEEDS

RESULTS = "results.jsonl"
RowKey = tuple[str, int, int]
"""Setting, prompt number and seed."""
FORMAT_VERSION = 1
MOTIONS = ("still", *SPEEDS)


@dataclass(frozen=True)
class ResultRow:
    """One video of one setting. Fields that do not apply or were not measured are None.

    Attributes:
        policy: name of the policy on the command line, or "baseline" for uncached videos.
        setting: name of the setting, unique within a benchmark.
        title: title of the setting for tables.
        prompt: prompt as written.
        index: number of the prompt.
        seed: seed of the random stream. A video is paired with the baseline video of the same index and seed.
        psnr, ssim, lpips: quality against the baseline video, from raw frames; PSNR in dB.
        psnr_mp4, ssim_mp4, lpips_mp4: the same, from the decoded files.
        flicker: value of `metrics.motion.flicker`.
        motion_error: value of `metrics.motion.motion_error`.
        latency_s: seconds of the whole run of the video.
        loop_s: seconds of the denoising loop.
        tflops: 10¹² FLOPs of the denoising loop; None for a pipeline whose costs are not counted.
        computed_steps: number of steps that ran the transformer.
        num_steps: number of denoising steps.
        cache_bytes: peak size of the cached residuals.
        peak_memory_bytes: peak memory of the device, or peak resident memory on the CPU.
        video: path of the video file, relative to the folder of the results; None if the benchmark keeps no videos.
        motion: motion class of the prompt, one of `MOTIONS`.
        checks: for each of `scenes.words.ATTRIBUTES`, the number of correct answers and of questions.
        schedule: one character per step, "#" for computed steps.
        distances: for each step, the distance that the policy decides by.
        motions: for each step, the motion factor.
        work: number of computed steps that cost as many FLOPs as this video. It is `computed_steps` unless skipped
            steps run some of the blocks, or computed ones do not run all blocks for all rows.
        version: version of this format. Rows without one have version 1.
    """

    policy: str
    setting: str
    title: str
    prompt: str
    index: int
    seed: int
    psnr: float | None
    ssim: float | None
    lpips: float | None
    psnr_mp4: float | None
    ssim_mp4: float | None
    lpips_mp4: float | None
    flicker: float | None
    motion_error: float | None
    latency_s: float
    loop_s: float
    tflops: float | None
    computed_steps: int
    num_steps: int
    cache_bytes: int
    peak_memory_bytes: int | None
    video: str | None
    motion: str | None
    checks: Mapping[str, tuple[int, ...]] | None
    schedule: str
    distances: tuple[float | None, ...]
    motions: tuple[float | None, ...]
    work: float | None = None
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.version != FORMAT_VERSION:
            raise ValueError(f"its format has version {self.version}, this package reads version {FORMAT_VERSION}")
        if self.motion is not None and self.motion not in MOTIONS:
            raise ValueError(f"motion must be one of {', '.join(MOTIONS)} or None, got {self.motion!r}")
        for name in ("schedule", "distances", "motions"):
            if len(getattr(self, name)) != self.num_steps:
                raise ValueError(f"{name} must hold {self.num_steps} steps, got {len(getattr(self, name))}")
        if self.loop_s <= 0:
            raise ValueError(f"loop_s must be above 0, got {self.loop_s}")
        for name, counts in (self.checks or {}).items():
            if len(counts) != 2 or not 0 <= counts[0] <= counts[1]:
                raise ValueError(f"checks['{name}'] must be [right, asked], got {counts}")
        if self.video is not None and not _is_inside(self.video):
            raise ValueError(f"video must name a file inside the folder of the results, got '{self.video}'")

    @property
    def video_key(self) -> tuple[int, int]:
        """Prompt number and seed, by which videos of different settings are paired."""
        return self.index, self.seed

    @property
    def key(self) -> RowKey:
        """What tells the row from all others of a benchmark."""
        return self.setting, self.index, self.seed

    @property
    def steps(self) -> float:
        """The computed steps by FLOPs (`work`), or their number where FLOPs are not counted."""
        return self.computed_steps if self.work is None else self.work

    @property
    def is_exact(self) -> bool:
        """Whether nothing but rounding sets the video apart from the baseline video."""
        return self.psnr is not None and self.psnr >= PSNR_CAP

    def video_in(self, folder: Path) -> Path:
        """Return the path of the video in the folder of the results.

        Raises:
            FileNotFoundError: there is no such file, or the benchmark kept none.
            ValueError: a link leads out of the folder.
        """
        if self.video is None:
            raise FileNotFoundError(f"the benchmark in '{folder}' kept no videos (keep_videos = False in its config)")
        path = folder / self.video
        if not path.is_file():
            raise FileNotFoundError(
                f"'{path}' is listed in results.jsonl but does not exist; remove its line and run "
                "opensora-adacache compare again"
            )
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"'{path}' is a link out of the folder of the results; put the file itself there")
        return path


_FIELDS = {field.name: field for field in fields(ResultRow)}
_HINTS = get_type_hints(ResultRow)


def read_results(path: Path) -> list[ResultRow]:
    """Read the rows of finished videos, in file order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a row, or a video occurs twice.
    """
    rows: list[ResultRow] = []
    seen: dict[tuple[str, int, int], int] = {}
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            row = _row(json.loads(line))
        except (ValueError, RecursionError) as error:
            reason = error if isinstance(error, _RowError) else "not JSON"
            raise ValueError(
                f"'{path}' line {number} is not a result ({reason}); repair it or choose another folder"
            ) from None
        before = seen.setdefault((row.setting, *row.video_key), number)
        if before != number:
            raise ValueError(
                f"'{path}' lines {before} and {number} hold the same video ('{row.setting}', prompt {row.index}, "
                f"seed {row.seed}); remove one of them"
            )
        rows.append(row)
    return rows


def append_result(path: Path, row: ResultRow) -> None:
    """Append a row and flush it to disk. A missing folder is created.

    Raises:
        ValueError: a figure of the row is infinite or NaN, which JSON cannot hold.
        OSError: the file cannot be written.
    """
    line = _line(row)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            _drop_partial_line(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(f"cannot write '{path}': {error.strerror or error}; free the disk or choose another") from None


def write_results(path: Path, rows: Iterable[ResultRow]) -> None:
    """Replace all rows, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(path, b"".join(map(_line, rows)))


def _line(row: ResultRow) -> bytes:
    try:
        return json.dumps(asdict(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except ValueError:
        raise ValueError(
            f"a figure of '{row.setting}', prompt {row.index}, is not finite; store None for missing figures"
        ) from None


def _whole_lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"'{path}' does not exist; name a folder that opensora-adacache compare wrote"
        ) from None


def _drop_partial_line(file: BinaryIO) -> None:
    """Remove an incomplete last line, if there is one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read(1) not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


class _RowError(ValueError):
    """Why a line is not a row."""


def _row(content: Any) -> ResultRow:
    if not isinstance(content, dict):
        raise _RowError("not a JSON object")
    for name, field in _FIELDS.items():
        if name not in content and field.default is MISSING:
            raise _RowError(f"'{name}' is missing")
    for key in content:
        if key not in _FIELDS:
            raise _RowError(f"{shown(key)} is unknown")
    try:
        return ResultRow(**{key: convert(value, _HINTS[key], f"'{key}'") for key, value in content.items()})
    except ValueError as error:
        raise _RowError(error) from None


def _is_inside(video: str) -> bool:
    """Tell whether a relative path stays below its folder, on any system."""
    parts = PureWindowsPath(video)  # which knows both kinds of slashes
    return bool(parts.name) and not parts.anchor and ".." not in parts.parts and "\0" not in video
