"""Describe what the pixels of a video depend on, as plain JSON values.

The description is part of the record beside the video, so that a run with different settings does not mistake an old
video for its own. It is derived from the config itself: it contains every field except those listed here with the
reason why they cannot change the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from opensora_adacache.config.settings import ONLY_IN_LOOPS, OpenSoraConfig, RunConfig
from opensora_adacache.generation.jobs import VideoJob

_LOADED = ("model", "vae", "text_encoder", "pipeline")

NOT_IN_PIXELS = {
    "path": "the content of the config file is compared instead",
    "prompts": "the texts of the job are compared instead",
    "prompt_path": "the texts of the job are compared instead",
    "aes": "part of the job's texts",
    "flow": "part of the job's texts",
    "camera_motion": "part of the job's texts",
    "seed": "the seed of the job is compared instead",
    "start_index": "part of the job's seed",
    "num_sample": "the sample number of the job is compared instead",
    "reference_path": "the content of the job's references is compared instead",
    "mask_strategy": "the masks of the job are compared instead",
    "batch_size": "matters only if a cache decides for the whole batch, see `describe`",
    "save_dir": "where files go",
    "sample_name": "how files are named",
    "prompt_as_path": "how files are named",
    "overwrite": "which videos are made",
    "verbose": "what is printed",
    "preview": "what is shown of unfinished videos",
    "executor": "which processes make the videos",
    "parallel.sequence": "the same sums in another order",
    "parallel.guidance": "the same sums in another order",
    "model.qk_norm": "a check of the checkpoint",
    "model.enable_layernorm_kernel": "has no effect",
    "model.enable_flash_attn": "the same sums in another order",
    "model.attention_backend": "the same sums in another order",
    "model.compile": "the same sums in another order",
    "vae.micro_batch_size": "the same work in different portions",
    "vae.channels_last": "the same sums in another order",
    "vae.compile": "the same sums in another order",
    "vae.decode_ahead": "when videos are decoded",
    "text_encoder.offload": "when weights are freed",
    "cache.residual_device": "where residuals are held",
    "pipeline.device_map": "where weights are kept",
    "pipeline.offload": "where weights are kept while they are not needed",
    **{f"{section}.cache_dir": "where downloads are kept" for section in _LOADED},
    **{f"{section}.local_files_only": "whether the network is used" for section in _LOADED},
}
"""Dotted names of fields of configs -> why they cannot change the pixels of a video beyond rounding."""


def describe(job: VideoJob, config: RunConfig) -> dict[str, Any]:
    """Return everything that the pixels of a video depend on, as plain JSON values."""
    settings = {
        "texts": list(job.texts),
        "seed": job.seed,
        "sample": job.sample,
        "references": [_digest(path) for path in job.references],
        "masks": [str(mask) for mask in job.masks],
        **_describe_section(config),
    }
    if config.num_clips == 1:
        for name in ONLY_IN_LOOPS:
            settings.pop(name, None)
    if config.cache is not None:
        # Not the name in configs, because a policy may be a user's own class.
        settings["cache"] = {"type": type(config.cache).__name__.removesuffix("Config"), **settings["cache"]}
        if config.decides_per_batch:
            settings["cache"]["batch_size"] = config.batch_size
    return settings


def find_difference(old: Mapping[str, Any], version: int, job: VideoJob, config: RunConfig) -> str | None:
    """Name the first setting in which a recorded description differs from that of a job, with both values.

    A field that did not exist when the record was written has its default, which is how the package behaved then.

    Args:
        old: the recorded description.
        version: version of the record.
        job: the current job.
        config: the current config.
    """
    new = describe(job, config)
    if version == 1 and isinstance(config, OpenSoraConfig):
        new = _as_version_1(new)
    return first_difference(_with_defaults(old, new, config), new)


def first_difference(old: Any, new: Any, name: str = "") -> str | None:
    """Return the first entry in which two descriptions differ, with both values, or None if they are equal.

    >>> first_difference({"scheduler": {"cfg_scale": 7.0}}, {"scheduler": {"cfg_scale": 4.0}})
    'scheduler.cfg_scale was 7.0 and is 4.0 now'
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            found = first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
            if found:
                return found
        return None
    return None if old == new else f"{name} was {old!r} and is {new!r} now"


def plain(value: Any) -> Any:
    """Convert settings to what JSON reads back (string keys, lists), so that equal settings compare equal.

    >>> plain({0.10: (4, 3), "a": None})
    {'0.1': [4, 3], 'a': None}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _describe_section(section: Any, prefix: str = "") -> dict[str, Any]:
    described = {}
    for field in fields(section):
        name, value = prefix + field.name, getattr(section, field.name)
        if name in NOT_IN_PIXELS:
            continue
        found = _describe_section(value, f"{name}.") if is_dataclass(value) else plain(value)
        if found or not is_dataclass(value):  # a section of which nothing counts is left out
            described[field.name] = found
    return described


def _with_defaults(old: Mapping[str, Any], new: Mapping[str, Any], section: Any) -> dict[str, Any]:
    """Return an old description with defaults for the fields that it lacks."""
    filled = dict(old)
    known = {field.name: field for field in fields(section)}
    for name in known.keys() & new.keys():
        value = getattr(section, name)
        if name not in old:
            filled[name] = plain(_default(known[name]))
        elif is_dataclass(value) and isinstance(old[name], Mapping) and isinstance(new[name], Mapping):
            filled[name] = _with_defaults(old[name], new[name], value)
    return filled


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return None if field.default_factory is MISSING else field.default_factory()


# The keys of each section in records of version 1, which listed what to compare, and settings that did not exist then.
# Of a cache they compared everything.
_SECTIONS_OF_VERSION_1 = {
    "model": ("type", "from_pretrained", "quantize"),
    "vae": ("from_pretrained", "micro_frame_size", "tiling"),
    "text_encoder": ("from_pretrained", "model_max_length", "dtype", "quantize"),
}


def _as_version_1(description: dict[str, Any]) -> dict[str, Any]:
    listed = {name: {key: description[name][key] for key in keys} for name, keys in _SECTIONS_OF_VERSION_1.items()}
    return {**description, **listed, "cache": _with_short_numbers(description["cache"])}


def _with_short_numbers(value: Any) -> Any:
    """Return settings with the thresholds of codebooks as version 1 wrote them: "1", not "1.0"."""
    if not isinstance(value, Mapping):
        return value
    return {_short_number(key): _with_short_numbers(entry) for key, entry in value.items()}


def _short_number(key: str) -> str:
    try:
        return f"{float(key):g}"
    except ValueError:
        return key


def _digest(path: Path) -> str:
    """Return a string that identifies the content of a file."""
    return f"{path.name} {sha256(path.read_bytes()).hexdigest()[:16]}"
