"""Where the runs of an app come from: a config, or a diffusers pipeline that a shipped config describes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from opensora_adacache.app.requests import PairRequest
from opensora_adacache.config import load_config
from opensora_adacache.config.paths import find_config, locate_checkpoint
from opensora_adacache.config.pipeline import PipelineSettings
from opensora_adacache.config.prompts import extract_options, split_prompt
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.errors.family import ConfigError, MissingFileError
from opensora_adacache.generation.jobs import VideoJob, plan_jobs

NUM_EXAMPLES = 5

# Class of a pipeline -> the config that describes it.
PIPELINES = {
    "CogVideoXPipeline": "cogvideox/sample",
    "HunyuanVideo15Pipeline": "hunyuan_video_1_5/sample",
    "HunyuanVideoPipeline": "hunyuan_video/sample",
    "LTX2Pipeline": "ltx_2/sample",
    "LTXPipeline": "ltx_video/sample",
    "LattePipeline": "latte/sample",
    "MochiPipeline": "mochi/sample",
    "WanPipeline": "wan/sample",
}


class Source:
    """The config of an app.

    Args:
        name: path or name of a config, or folder or hub name of a diffusers pipeline.
        overrides: dotted keys and values that override the config.

    Attributes:
        name: as the user gave it.
        config: the config, whose cache is its own.
        takes_reference: whether a reference image can be the first frame.
        examples: a few prompts of the config.

    Raises:
        MissingFileError: there is no such config or pipeline.
        ConfigError: the config is invalid, or no config describes the pipeline.
    """

    def __init__(self, name: str, overrides: Mapping[str, Any]) -> None:
        self.name = name
        self._path, found = find_run(name)
        self._overrides = {**found, **overrides}
        self.config = self._load({})
        self.takes_reference = isinstance(self.config, OpenSoraConfig)
        self.examples = _examples(self.config)
        if isinstance(self.config, OpenSoraConfig):
            # Prompts come one by one, so the text encoder stays.
            self._overrides["text_encoder.offload"] = False
            self.config = self._load({})

    def run(self, request: PairRequest, folder: Path, changes: Mapping[str, Any]) -> RunConfig:
        """Return the config of one of the runs of a pair.

        Args:
            request: what the visitor asked for.
            folder: folder of the pair.
            changes: dotted keys and values that override the config, such as its cache.
        """
        values = {"prompt": [request.prompt], "seed": request.seed, "save_dir": str(folder), **changes}
        if self.takes_reference:
            values["reference_path"] = "" if request.reference is None else str(request.reference)
            values["mask_strategy"] = "" if request.reference is None else "0"
        return self._load(values)

    def short_run(self) -> RunConfig:
        """Return the config of a baseline run of two steps."""
        references = {"reference_path": "", "mask_strategy": ""} if self.takes_reference else {}
        return self._load({"prompt": ["a test"], "cache": None, "scheduler.num_sampling_steps": 2, **references})

    def _load(self, values: Mapping[str, Any]) -> RunConfig:
        config = load_config(
            self._path, {**self._overrides, **values}, defaults={"prompt_path": "assets/texts/gallery.txt"}
        )
        return replace(config, start_index=0, num_sample=1, batch_size=1, prompt_as_path=False, executor=None)


def job_of(config: RunConfig, name: str) -> VideoJob:
    """Return the only job of a run, whose video has a name."""
    (job,) = plan_jobs(config)
    return replace(job, path=config.save_dir / f"{name}.mp4")


def find_run(name: str) -> tuple[Path, dict[str, Any]]:
    """Return the config for what a user named, and overrides.

    >>> find_run("scenes/sample")[0].name
    'sample.py'

    Raises:
        MissingFileError: there is no such config or pipeline.
        ConfigError: no shipped config describes the pipeline.
    """
    path = find_config(name)
    if path.is_file() or path.suffix in (".py", ".yaml", ".yml", ".json"):
        return path, {}
    from opensora_adacache.config.pipeline_class import read_index

    try:
        settings = PipelineSettings(locate_checkpoint(name, "pipeline"), {"num_inference_steps": 1})
        kind = read_index(settings)["_class_name"]
    except OSError as error:
        if isinstance(error, MissingFileError) and os.path.exists(name):
            raise
        raise MissingFileError(
            f"'{name}' is neither a config nor a pipeline of diffusers that can be read; opensora-adacache configs "
            "lists the configs"
        ) from None
    if kind not in PIPELINES:
        raise ConfigError(
            f"'{name}' is a {kind}, which no config of this package describes; write one with a section pipeline, and "
            "pass its path"
        )
    return find_config(PIPELINES[kind]), {"pipeline.from_pretrained": name}


def _examples(config: RunConfig) -> tuple[str, ...]:
    """Return the first prompts of a config without their options and loops."""
    texts = (split_prompt(extract_options(prompt)[0])[0][0] for prompt in config.prompts)
    return tuple(dict.fromkeys(text for text in texts if text))[:NUM_EXAMPLES]
