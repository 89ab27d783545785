"""Record the probe of a diffusers pipeline on a few prompts, to find a codebook for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.replay import Recording


@dataclass(frozen=True)
class PipelineRun:
    """How a pipeline makes the calibration videos.

    Attributes:
        model: folder or hub name for `DiffusionPipeline.from_pretrained`.
        num_steps: number of steps n, the pipeline's num_inference_steps.
        transformer: name of the pipeline component to cache.
        seed: seed of the first prompt. Each further prompt adds 1.
        call: extra arguments of the pipeline call.
    """

    model: str
    num_steps: int
    transformer: str = "transformer"
    seed: int = 0
    call: Mapping[str, Any] = field(default_factory=dict)

    def record(self, config: AdaCacheConfig, prompts: Sequence[str]) -> list[Recording]:
        """Run each prompt with every step computed, and return a recording per prompt and guidance branch.

        Raises:
            OSError: there is no such pipeline.
        """
        self._check_model()
        import torch
        from diffusers import DiffusionPipeline
        from tqdm import tqdm

        from opensora_adacache.adapters.recorder import record_branches

        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        pipeline = DiffusionPipeline.from_pretrained(self.model).to(device, dtype)
        pipeline.set_progress_bar_config(disable=True)
        arguments = {"output_type": "latent", **self.call, "num_inference_steps": self.num_steps}
        recordings = []
        for number, prompt in enumerate(tqdm(prompts, desc="recording", disable=not sys.stderr.isatty())):
            generator = torch.Generator(device).manual_seed(self.seed + number)
            with record_branches(getattr(pipeline, self.transformer), config, self.num_steps) as recorders:
                pipeline(prompt, generator=generator, **arguments)
            recordings += [recorder.recording() for recorder in recorders.values()]
        return recordings

    def _check_model(self) -> None:
        """Raise FileNotFoundError for a path that holds no pipeline; any other name is one of the hub."""
        path = Path(self.model)
        if path.exists() and not (path / "model_index.json").is_file():
            raise FileNotFoundError(
                f"'{self.model}' holds no pipeline: expected a folder with model_index.json, or a name on the hub"
            )


def read_lines(path: Path) -> list[str]:
    """Return the prompts of a file, one per line.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file holds no prompt.
    """
    prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"'{path}' has no prompts; write one per line")
    return prompts
