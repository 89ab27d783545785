"""Run VBench 0.1.5 in its own environment: prompts, names of videos, processes, result files.

VBench pins transformers 4.33.2 and numpy below 2, so it runs in a process of its own (`scripts/vbench_env.sh` creates
its environment). Its launcher `vbench evaluate` always exits with status 0, so we run the module that it starts.
VBench also takes the suffix of the videos from any file in their folder and ignores missing videos, so it gets a
folder with links to exactly the videos it needs.
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
from opensora_adacache.config.settings import VBENCH_VIDEOS

MODULE = "vbench.launch.evaluate"
# VBench drops a video from this dimension if it never detects the requested object.
_PARTIAL_DIMENSIONS = ("color",)


@dataclass(frozen=True)
class VBenchPrompt:
    """A prompt and the dimensions that use it."""

    text: str
    dimensions: tuple[str, ...]

    @property
    def video_names(self) -> tuple[str, ...]:
        """Names of the files that VBench looks for."""
        return tuple(f"{self.text}-{index}.mp4" for index in range(VBENCH_VIDEOS))


def read_prompts(full_info: Path) -> list[VBenchPrompt]:
    """Read ``VBench_full_info.json``: 946 entries. Two prompts occur twice, for different dimensions.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not VBench's.
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
    """Raise ValueError for the first name that is not a dimension of VBench."""
    for name in names:
        if name not in DIMENSIONS:
            raise ValueError(f"unknown dimension '{name}'; expected one of {', '.join(DIMENSIONS)}")


def video_names(prompts: Sequence[VBenchPrompt], dimensions: Sequence[str]) -> list[str]:
    """Return the files that the dimensions need, in the order of the prompts, without duplicates."""
    chosen = (prompt for prompt in prompts if set(prompt.dimensions) & set(dimensions))
    return list(dict.fromkeys(name for prompt in chosen for name in prompt.video_names))


def link_videos(videos: Path, names: Sequence[str], folder: Path) -> None:
    """Fill `folder` with links to the named videos of `videos` and nothing else.

    Raises:
        FileNotFoundError: videos are missing or empty. The message says how many.
        ValueError: `folder` holds files that are not links, or links to other videos, which the results beside it
            belong to.
        OSError: the folder cannot be written.
    """
    if not videos.is_dir():
        raise FileNotFoundError(f"folder '{videos}' does not exist; make the videos first (docs/guide/metrics.md)")
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(videos) if entry.is_file()}
    missing = [name for name in names if not sizes.get(name)]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} videos are missing or empty in '{videos}', the first is '{missing[0]}'; "
            "make them with vbench=True"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if not entry.is_symlink():
            raise ValueError(f"'{entry}' is not a link; choose another output folder")
        if entry.readlink().parent != videos.resolve():
            raise ValueError(
                f"'{folder}' is for the videos in '{entry.readlink().parent}'; choose another output folder"
            )
        entry.unlink()
    for name in names:
        (folder / name).symlink_to(videos.resolve() / name)


def environment_python(environment: Path) -> Path:
    """Return the Python interpreter of VBench's environment.

    Raises:
        FileNotFoundError: there is no environment with vbench.
    """
    python = environment / "bin" / "python"
    if not python.exists() or not list(environment.glob("lib/python*/site-packages/vbench/launch/evaluate.py")):
        raise FileNotFoundError(
            f"'{environment}' holds no vbench; create it with: bash scripts/vbench_env.sh {environment}"
        )
    return python


def run_dimension(python: Path, full_info: Path, videos: Path, output: Path, dimension: str) -> None:
    """Run VBench on one dimension and write its results and log to `output`. This needs a CUDA device.

    VBench reads its models from the folder VBENCH_CACHE_DIR (~/.cache/vbench), and downloads what is missing there.

    Args:
        python: interpreter of VBench's environment.
        full_info: path of ``VBench_full_info.json``.
        videos: folder that `link_videos` filled.
        output: folder for this dimension alone.
        dimension: dimension to evaluate.

    Raises:
        OSError: VBench failed. The message includes the last line that it wrote.
    """
    output.mkdir(parents=True, exist_ok=True)
    log = output / "log.txt"
    command = [
        # Isolated, so that neither our packages nor a file named vbench.py in this folder is imported.
        *(str(python.absolute()), "-I", "-m", MODULE),
        *("--full_json_dir", str(full_info.absolute())),
        *("--videos_path", str(videos.absolute())),
        *("--output_path", str(output.absolute())),
        *("--dimension", dimension, "--load_ckpt_from_local", "True"),
    ]
    with open(log, "w") as file:
        status = subprocess.run(command, cwd=output, stdout=file, stderr=subprocess.STDOUT).returncode
    if status:
        lines = log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
        raise OSError(f"vbench failed on '{dimension}' with status {status}: {last[:200]}; see '{log}'")


def fetch_models(python: Path, dimensions: Sequence[str]) -> None:
    """Download what VBench's models need, as VBench itself does before it evaluates, with wget and git.

    Args:
        python: interpreter of VBench's environment.
        dimensions: dimensions whose models to download.

    Raises:
        OSError: VBench could not download a model. What it wrote is on the screen.
    """
    code = "import sys; from vbench.utils import init_submodules; init_submodules(sys.argv[1:], local=True)"
    status = subprocess.run([str(python.absolute()), "-I", "-c", code, *dimensions]).returncode
    if status:
        raise OSError(f"vbench could not fetch its models (status {status}); see what it wrote above")


def find_result(output: Path, videos: Path, names: Sequence[str]) -> Path | None:
    """Return the newest result file in the folder of a dimension, or None if a video is newer."""
    result = max(output.glob("*_eval_results.json"), key=_mtime, default=None)
    if result and any(_mtime(videos / name) > _mtime(result) for name in names):
        return None
    return result


def read_result(path: Path, dimension: str, names: Sequence[str]) -> float:
    """Return the raw score of a dimension from a result file: ``{dimension: [score, [{"video_path": …}, …]]}``.

    Args:
        path: result file that `run_dimension` wrote.
        dimension: dimension that the file must be for.
        names: names of the videos that must have been evaluated.

    Raises:
        ValueError: the file is truncated, belongs to another dimension or other videos, or lacks videos.
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
        raise ValueError(f"'{path}' {problem}, so it does not belong to these {len(names)} videos; {again}")
    return score


def _mtime(path: Path) -> float:
    return path.stat().st_mtime


def _read_json(path: Path, remedy: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"'{path}' does not exist; {remedy}") from None
    except ValueError:
        raise ValueError(f"'{path}' is truncated or not JSON; {remedy}") from None
