"""Evaluate videos with VBench, one dimension at a time, and keep the results of finished dimensions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opensora_adacache.benchmark import vbench
from opensora_adacache.benchmark.vbench_score import DIMENSIONS, total_score
from opensora_adacache.errors.shown import counted
from opensora_adacache.media.files import write_file


@dataclass(frozen=True)
class VBenchRun:
    """The dimensions to evaluate, and where VBench is installed.

    Attributes:
        environment: VBench's virtual environment.
        output: folder of the results.
        dimensions: dimensions to evaluate.
        full_info: path of VBench_full_info.json. None uses the one in the environment.
    """

    environment: Path
    output: Path
    dimensions: Sequence[str] = tuple(DIMENSIONS)
    full_info: Path | None = None

    def __post_init__(self) -> None:
        vbench.check_dimensions(self.dimensions)

    @property
    def prompts_path(self) -> Path:
        """Path of the prompts: the given one, or the one in the environment."""
        if self.full_info:
            return self.full_info
        package = vbench.environment_python(self.environment).parent.parent
        return next(package.glob("lib/python*/site-packages/vbench"), package) / "VBench_full_info.json"

    def prompts(self) -> list[str]:
        """Return each prompt of the dimensions once."""
        found = vbench.read_prompts(self.prompts_path)
        return list(dict.fromkeys(prompt.text for prompt in found if set(prompt.dimensions) & set(self.dimensions)))

    def fetch(self) -> None:
        """Download the models of the dimensions to VBENCH_CACHE_DIR (~/.cache/vbench).

        Raises:
            FileNotFoundError: VBench is missing.
            OSError: a model could not be downloaded.
        """
        vbench.fetch_models(vbench.environment_python(self.environment), self.dimensions)

    def evaluate(self, videos: Path) -> dict[str, float]:
        """Evaluate the missing dimensions, then print and return the scores of all.

        Args:
            videos: folder of {prompt}-{0..4}.mp4.

        Raises:
            FileNotFoundError: videos or VBench are missing.
            ValueError: the output folder or a result in it belongs to other videos.
            OSError: VBench failed.
        """
        full_info = self.prompts_path
        prompts = vbench.read_prompts(full_info)
        links = self.output / "videos"
        vbench.link_videos(videos, vbench.video_names(prompts, self.dimensions), links)
        scores = {}
        for dimension in self.dimensions:
            output, names = self.output / dimension, vbench.video_names(prompts, [dimension])
            result = vbench.find_result(output, links, names)
            if result is None:
                python = vbench.environment_python(self.environment)
                print(f"{dimension}: {counted(len(names), 'video')} …", flush=True)
                vbench.run_dimension(python, full_info, links, output, dimension)
                result = vbench.find_result(output, links, names)
                if result is None:
                    raise OSError(f"vbench wrote no result of '{dimension}'; see '{output / 'log.txt'}'")
            scores[dimension] = vbench.read_result(result, dimension, names)
            print(f"{dimension}: {100 * scores[dimension]:.2f} %", flush=True)
        return scores

    def write_scores(self, scores: dict[str, float]) -> str:
        """Write scores.json, including the total if every dimension has a score; return a line about the total."""
        report: dict[str, object] = {"dimensions": scores}
        if set(scores) == set(DIMENSIONS):
            score = total_score(scores)
            means = {"quality": score.quality, "semantic": score.semantic, "total": score.total}
            report |= means
            text = ", ".join(f"{name} {100 * value:.2f} %" for name, value in means.items())
        else:
            text = f"no total: {len(DIMENSIONS) - len(scores)} of {len(DIMENSIONS)} dimensions were not evaluated"
        write_file(self.output / "scores.json", (json.dumps(report, indent=2) + "\n").encode())
        return text
