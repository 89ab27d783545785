"""The keys of a config: which exist, which have no effect, and which take strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from opensora_adacache.config.executor import ExecutorSettings
from opensora_adacache.config.pipeline import FIELD_KEYS, OpenSoraPlanSettings
from opensora_adacache.config.settings import (
    ModelSettings,
    OpenSoraConfig,
    SchedulerSettings,
    TextEncoderSettings,
    VaeSettings,
)

LOADED: dict[str, type[Any]] = {"model": ModelSettings, "vae": VaeSettings, "text_encoder": TextEncoderSettings}
# Keys of the reference that only its training or its other launchers read.
IDLE_KEYS = {"model": ("freeze_y_embedder",), "text_encoder": ("shardformer",)}

# Keys at the top level: fields of OpenSoraConfig, and keys that are resolved into them.
CHECKED_KEYS = ("llm_refine", "multi_resolution")
_INPUT_TEXTS = ("resolution", "aspect_ratio")
_PROMPT_KEYS = ("prompt", "end_index", "logdate_dir", "vbench")
_INPUT_KEYS = (*_INPUT_TEXTS, "frame_interval", *_PROMPT_KEYS)
KNOWN_KEYS = (
    *(field.name for field in fields(OpenSoraConfig) if field.name not in ("path", "prompts")),
    *_INPUT_KEYS,
    *CHECKED_KEYS,
)
# The same for the run of a pipeline.
PIPELINE_KEYS = (*FIELD_KEYS, *_PROMPT_KEYS)


def describes_benchmark(values: Mapping[str, Any]) -> bool:
    """Return whether the values of a config file describe a benchmark rather than a run."""
    return "settings" in values or "run" in values


def text_keys() -> list[str]:
    """Return the dotted keys that take one string."""
    return [*_INPUT_TEXTS, "pipeline.call.negative_prompt", *_hinted(str, str | None, Path)]


def text_list_keys() -> list[str]:
    """Return the dotted keys that take one string or a list of strings."""
    return ["prompt", "image.prompt", *_hinted(tuple[str, ...])]


def _hinted(*types: Any) -> Iterator[str]:
    sections: dict[str, type[Any]] = {"": OpenSoraConfig, "image.": OpenSoraConfig, "scheduler.": SchedulerSettings}
    sections |= {f"{name}.": section for name, section in LOADED.items()}
    sections |= {"pipeline.": OpenSoraPlanSettings, "executor.": ExecutorSettings}
    for prefix, section in sections.items():
        for name, hint in get_type_hints(section).items():
            if hint in types:
                yield prefix + name
