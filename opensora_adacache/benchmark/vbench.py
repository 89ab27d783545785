"""Run VBench 0.1.5 in its own environment: prompts, names of videos, processes, result files.

VBench pins transformers 4.33.2 and numpy below 2, so it shares no process with us (`scripts/vbench_env.sh` makes its
environment). Its launcher `vbench evaluate` ends with status 0 whatever happens, so the module it starts is run itself.
It also takes the suffix of videos from any file in their folder and ignores missing videos, so it gets a folder of
links to exactly the videos it needs.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensora_adacache.benchmark.vbench_score import DIMENSIONS

VIDEOS_PER_PROMPT = 5
MODULE = "vbench.launch.evaluate"
# VBench leaves a video without a single detection of the asked object out of this dimension.
_PARTIAL_DIMENSIONS = ("color",)


@dataclass(frozen=True)
class VBenchPrompt:
    """A prompt and the dimensions it is for."""

    text: str
    dimensions: tuple[str, ...]

    @property
    def video_names(self) -> tuple[str, ...]:
        """The files VBench looks for."""
        return tuple(f"{self.text}-{index}.mp4" for index in range(VIDEOS_PER_PROMPT))


def read_prompts(full_info: Path) -> list[VBenchPrompt]:
    """Read ``VBench_full_info.json``: 946 entries, of which two prompts come twice, for different dimensions.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is something else.
    """
    entries = _read_json(full_info, "name VBench_full_info.json of the vbench package")
    try:
        prompts = [VBenchPrompt(entry["prompt_en"], tuple(entry["dimension"])) for entry in entries]
    except (TypeError, KeyError):
        prompts = []
    if not prompts:
        raise ValueError(f"'{full_info}' lists no prompts of VBench; name VBench_full_info.json of the vbench package")
    return prompts


def check_dimensions(names: Sequence[str]) -> None:
    """Raise ValueError for the first name that is no dimension of VBench."""
    for name in names:
        if name not in DIMENSIONS:
            raise ValueError(f"unknown dimension '{name}'; expected one of {', '.join(DIMENSIONS)}")


def video_names(prompts: Sequence[VBenchPrompt], dimensions: Sequence[str]) -> list[str]:
    """Return the files that some dimensions need, in order of prompts, each once."""
    chosen = (prompt for prompt in prompts if set(prompt.dimensions) & set(dimensions))
    return list(dict.fromkeys(name for prompt in chosen for name in prompt.video_names))


def link_videos(videos: Path, names: Sequence[str], folder: Path) -> None:
    """Make `folder` hold links to the named videos of `videos` and nothing else.

    Raises:
        FileNotFoundError: a video is missing or empty; the message counts them.
        ValueError: `folder` holds files that are no links, or links to videos elsewhere: results beside it are theirs.
        OSError: the folder cannot be written.
    """
    if not videos.is_dir():
        raise FileNotFoundError(f"folder '{videos}' does not exist; make the videos first (docs/guide/metrics.md)")
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(videos) if entry.is_file()}
    missing = [name for name in names if not sizes.get(name)]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} videos are missing or empty in '{videos}', the first is '{missing[0]}'; "
            "make them with prompt_as_path=True and num_sample=5"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if not entry.is_symlink():
            raise ValueError(f"'{entry}' is no link; choose another output folder")
        if entry.readlink().parent != videos.resolve():
            raise ValueError(
                f"'{folder}' is for the videos in '{entry.readlink().parent}'; choose another output folder"
            )
        entry.unlink()
    for name in names:
        (folder / name).symlink_to(videos.resolve() / name)


def environment_python(environment: Path) -> Path:
    """Return the interpreter of VBench's environment.

    Raises:
        FileNotFoundError: there is none with vbench in it.
    """
    python = environment / "bin" / "python"
    if not python.exists() or not list(environment.glob("lib/python*/site-packages/vbench/launch/evaluate.py")):
        raise FileNotFoundError(
            f"'{environment}' holds no vbench; make it with bash scripts/vbench_env.sh {environment}"
        )
    return python


def run_dimension(python: Path, full_info: Path, videos: Path, output: Path, dimension: str) -> None:
    """Let VBench evaluate one dimension; its results and its log go to `output`. Needs a CUDA device and, the first
    time, a network: VBench downloads the model of each dimension.

    Args:
        python: of its environment.
        full_info: its prompts.
        videos: a folder that `link_videos` made.
        output: folder of this dimension alone.
        dimension: to evaluate.

    Raises:
        OSError: VBench failed; the message ends with the last line it wrote.
    """
    output.mkdir(parents=True, exist_ok=True)
    log = output / "log.txt"
    command = [
        # Isolated: neither our packages nor a file named vbench.py in this folder may get in its way.
        *(str(python.absolute()), "-I", "-m", MODULE),
        *("--full_json_dir", str(full_info.absolute())),
        *("--videos_path", str(videos.absolute())),
        *("--output_path", str(output.absolute())),
        *("--dimension", dimension),
    ]
    with open(log, "w") as file:
        status = subprocess.run(command, cwd=output, stdout=file, stderr=subprocess.STDOUT).returncode
    if status:
        lines = log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
        raise OSError(f"vbench failed on '{dimension}' with status {status}: {last[:200]}; see '{log}'")


def find_result(output: Path, videos: Path, names: Sequence[str]) -> Path | None:
    """Return the newest result file in the folder of a dimension, or None if a video was made after it."""
    result = max(output.glob("*_eval_results.json"), key=_mtime, default=None)
    if result and any(_mtime(videos / name) > _mtime(result) for name in names):
        return None
    return result


def read_result(path: Path, dimension: str, names: Sequence[str]) -> float:
    """Return the raw score of a dimension from a result file: ``{dimension: [score, [{"video_path": …}, …]]}``.

    Args:
        path: a file that `run_dimension` left.
        dimension: it is for.
        names: the videos that must have been evaluated.

    Raises:
        ValueError: the file is truncated, is for something else, or lacks videos.
    """
    again = f"delete '{path.parent}' and evaluate again"
    result = _read_json(path, again)
    try:
        score, videos = result[dimension]
        score, seen = float(score), {Path(video["video_path"]).name for video in videos}
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"'{path}' holds no result of '{dimension}'; {again}") from None
    missing, unknown = sorted(set(names) - seen), sorted(seen - set(names))
    if dimension in _PARTIAL_DIMENSIONS and seen:
        missing = []
    if missing or unknown or not math.isfinite(score):
        problem = f"lacks '{missing[0]}'" if missing else f"is of '{unknown[0]}'" if unknown else f"has score {score}"
        raise ValueError(f"'{path}' {problem}, so it is not of these {len(names)} videos; {again}")
    return score


def _mtime(path: Path) -> float:
    return path.stat().st_mtime


def _read_json(path: Path, remedy: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"'{path}' does not exist; {remedy}") from None
    except ValueError:
        raise ValueError(f"'{path}' is truncated or no JSON; {remedy}") from None
