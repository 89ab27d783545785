"""Read a config file, apply the command line, check everything, and return a `RunConfig`.

Nothing is loaded or written here and torch is not imported, so that a mistake costs no time. Code below this
module never sees mmengine's ConfigDict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.registry import POLICIES, config_class
from opensora_adacache.config import dialect, prompts, resolutions
from opensora_adacache.config.calibrated import fill_in
from opensora_adacache.config.file import get_value, merge, read_file, set_value
from opensora_adacache.config.section import build, check_keys, convert
from opensora_adacache.config.settings import (
    VAE_STRIDE,
    ModelSettings,
    RunConfig,
    SchedulerSettings,
    TextEncoderSettings,
    VaeSettings,
)
from opensora_adacache.errors.closest import closest

__all__ = ["RunConfig", "load_config", "locate"]

_LOADED = {"model": ModelSettings, "vae": VaeSettings, "text_encoder": TextEncoderSettings}
_SECTIONS = (*_LOADED, "scheduler", "cache")

# The keys of a config: fields of RunConfig, and what is resolved into them.
_CHECKED_KEYS = ("llm_refine", "multi_resolution")
_INPUT_KEYS = ("resolution", "aspect_ratio", "frame_interval", "prompt", "end_index", "logdate_dir")
_KNOWN_KEYS = (
    *(field.name for field in fields(RunConfig) if field.name not in ("path", "prompts")),
    *_INPUT_KEYS,
    *_CHECKED_KEYS,
)

# What a run of run_sample_image.sh changes about any config, before the config's own image section.
_IMAGE_RUN = {"save_dir": None, "num_frames": 1, "loop": 1, "mask_strategy": "", "flow": None, "camera_motion": None}

_SAVE_DIR = "samples/videos/{prompts}/{config}"

# A key -> the keys that have no effect beside it.
_STRONGER = {"image_size": ("resolution", "aspect_ratio"), "prompt": ("prompt_path",)}

_DEPTHS = {"STDiT3-XL/2": 28, "STDiT3-3B/2": 28}
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def load_config(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
    image: bool = False,
) -> RunConfig:
    """Read a config file in our dialect or in the reference's.

    Args:
        path: a mmengine config (.py, .yaml, .json), with or without ``_base_``.
        overrides: dotted keys ("scheduler.cfg_scale") and values that count over the file.
        defaults: likewise, for keys the file does not set.
        image: make the images that the videos start from: one frame, no references, then the config's section
            ``image`` of changed keys; ``save_dir`` defaults to the folder the videos read (`reference_path`).

    Raises:
        FileNotFoundError: the config, the prompt file or a local checkpoint does not exist.
        ValueError: anything else that is wrong, in one line.
    """
    path = Path(path)
    values = read_file(path)
    dialect.check_variables(values)
    for key, value in (defaults or {}).items():
        if get_value(values, key) is None:
            set_value(values, key, value)
    section = _plain_section(values.pop("image", None), "image")
    check_keys(section, _KNOWN_KEYS, "image")
    if image:
        merge(values, _IMAGE_RUN, ())
        _yield_to(section, values)
        merge(values, section, _SECTIONS)
    _yield_to(overrides or {}, values)
    for key, value in (overrides or {}).items():
        if not dialect.forward_override(values, key, value):
            set_value(values, key, value)
    _check_sections(values)
    values = dialect.translate(values)
    config = _build(path, values, image)
    _check_cache(config)
    return config


def _yield_to(changes: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Drop keys that would count over the ones that are about to be changed."""
    for key, weaker in _STRONGER.items():
        if key not in changes and any(name in changes for name in weaker):
            values[key] = None


def locate(path: str | Path) -> Path:
    """Find a path of a config: from the current folder, else beside the package (the embedded weights).

    Returns:
        The first that exists, or the path as it was given.
    """
    given = Path(path).expanduser()
    beside_package = Path(__file__).resolve().parents[2] / given
    return beside_package if not given.exists() and beside_package.exists() else given


def _plain_section(section: Any, where: str) -> dict[str, Any]:
    if not isinstance(section, Mapping | None):
        raise ValueError(f"{where} must be a section such as dict(…), got {section!r}")
    return dict(section or {})


def _check_sections(values: Mapping[str, Any]) -> None:
    """Refuse unknown keys, missing sections, and what of the reference has no counterpart here."""
    check_keys(values, (*_KNOWN_KEYS, *dialect.REFERENCE_KEYS), "")
    for name in (*_LOADED, "scheduler"):
        if not isinstance(values.get(name), Mapping):
            raise ValueError(f"the config needs a section {name}=dict(…), got {values.get(name)!r}")
    model_keys = [field.name for field in fields(ModelSettings)]
    check_keys(values["model"], (*model_keys, *dialect.REFERENCE_KEYS), "model")
    if values.get("llm_refine"):
        raise ValueError("llm_refine needs a service this package does not call; write refined prompts instead")
    if values.get("multi_resolution") not in (None, "STDiT2", "OpenSora"):
        raise ValueError(
            f"multi_resolution is {values['multi_resolution']!r}; "
            "STDiT3 takes 'STDiT2' (or 'OpenSora', which is the same)"
        )


def _build(path: Path, values: dict[str, Any], image: bool) -> RunConfig:
    """Resolve names and paths, then build the dataclasses."""
    values = dict(values)
    for key, section in _LOADED.items():
        values[key] = build(section, _with_local_path(values[key], key), key)
    values["scheduler"] = build(SchedulerSettings, values["scheduler"], "scheduler")
    values["cache"] = _build_cache(values.get("cache"), values["scheduler"].num_sampling_steps)
    _resolve_size(values)
    _resolve_prompts(values)
    _resolve_paths(values, path.stem, image)
    for key in _CHECKED_KEYS:
        values.pop(key, None)
    config = build(RunConfig, {"path": path, **values}, "")
    if config.cache is None:
        return config
    return replace(config, cache=config.cache.for_frames(config.num_latent_frames))


def _with_local_path(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Find the checkpoint of a section.

    A hub name is left to be resolved when it is loaded; anything else must exist now.
    """
    section = dict(section)
    name = section.get("from_pretrained")
    if isinstance(name, str):
        path = locate(name)
        if not path.exists() and (not _HUB_NAME.fullmatch(name) or path.suffix in _CHECKPOINT_SUFFIXES):
            raise FileNotFoundError(
                f"{where}.from_pretrained '{name}' does not exist; "
                "expected a local folder or file, or a hub name owner/name"
            )
        section["from_pretrained"] = str(path) if path.exists() else name
    return section


def _build_cache(section: Any, num_steps: int) -> CacheConfig | None:
    if section is None:
        return None
    section = fill_in(_plain_section(section, "cache"), num_steps, "cache")
    kind = section.pop("type", "AdaCache")
    if kind not in POLICIES:
        raise ValueError(
            f"cache.type is {kind!r}{closest(kind, POLICIES)}; expected one of {', '.join(POLICIES)} (or cache=None)"
        )
    if section.get("moreg") is not None:
        moreg = fill_in(_plain_section(section["moreg"], "cache.moreg"), num_steps, "cache.moreg")
        section["moreg"] = _take_type(moreg, "cache.moreg", "MoReg")
    return build(config_class(kind), section, "cache")


def _take_type(section: Any, where: str, expected: str) -> dict[str, Any]:
    section = _plain_section(section, where)
    kind = section.pop("type", expected)
    if kind != expected:
        raise ValueError(
            f"{where}.type is {kind!r}{closest(kind, [expected])}; expected '{expected}' (or {where}=None)"
        )
    return section


def _resolve_size(values: dict[str, Any]) -> None:
    """Turn names of sizes and lengths into numbers."""
    resolution, aspect_ratio = values.pop("resolution", None), values.pop("aspect_ratio", None)
    image_size = values.get("image_size")
    if image_size is None:
        if resolution is None or aspect_ratio is None:
            raise ValueError(
                "the config needs image_size=(height, width), or resolution and aspect_ratio such as '720p' "
                f"and '9:16'; got resolution {resolution!r} and aspect_ratio {aspect_ratio!r}"
            )
        # Named sizes such as 480x854 are kept although 854 is no multiple of the VAE's stride: the model was
        # trained to be told these numbers. As in the reference, the picture loses the rest (6 columns).
        values["image_size"] = resolutions.resolve_image_size(resolution, aspect_ratio)
    else:
        values["image_size"] = convert(image_size, tuple[int, int], "image_size")
        _check_divisible(values["image_size"])
    values["num_frames"] = resolutions.resolve_num_frames(convert(values.get("num_frames"), int | str, "num_frames"))
    interval = convert(values.pop("frame_interval", None) or 1, int, "frame_interval")
    if values.get("save_fps") is None and isinstance(values.get("fps"), int):
        values["save_fps"] = values["fps"] // max(interval, 1)


def _check_divisible(image_size: tuple[int, int]) -> None:
    for side, pixels in zip(("height", "width"), image_size, strict=True):
        if pixels < VAE_STRIDE or pixels % VAE_STRIDE:
            below = max(pixels // VAE_STRIDE, 1) * VAE_STRIDE
            raise ValueError(
                f"image_size {image_size[0]}x{image_size[1]}: the {side} must be a multiple of {VAE_STRIDE}, "
                f"got {pixels}; {below} and {below + VAE_STRIDE} are the nearest"
            )


def _resolve_prompts(values: dict[str, Any]) -> None:
    """Read the prompts; a list of prompts counts over a file."""
    start = convert(values.get("start_index") or 0, int, "start_index")
    end = convert(values.pop("end_index", None), int | None, "end_index")
    written = _text_list(values.pop("prompt", None), "prompt")
    path = convert(values.get("prompt_path"), str | None, "prompt_path")
    if written:
        # Names count from start_index, as in the reference; the list itself starts at its first prompt.
        values["prompts"] = written if end is None else written[: max(end - start, 0)]
        values["prompt_path"] = None
    elif path:
        values["prompt_path"] = str(locate(path))
        values["prompts"] = tuple(prompts.read_prompts(values["prompt_path"], start, end))
    else:
        raise ValueError("no prompts; pass --prompt 'a text' or --prompt-path FILE with one prompt per line")
    if not values["prompts"]:
        raise ValueError(f"no prompt left: start_index is {start}, end_index {end}; end_index must be larger")
    values["start_index"] = start


def _resolve_paths(values: dict[str, Any], name: str, image: bool) -> None:
    """Fill in ``{config}`` and ``{prompts}`` in folders; turn what may be one text or many into tuples."""
    templates = {"{config}": name, "{prompts}": Path(values.get("prompt_path") or "prompt").stem}
    references = _text_list(values.get("reference_path"), "reference_path")
    references = tuple(_fill(reference, templates) for reference in references)
    if image:
        if not values.get("save_dir"):
            if len(references) != 1:
                raise ValueError("images need a folder: pass --save-dir, or set reference_path to one folder")
            values["save_dir"] = references[0]
        references, values["mask_strategy"] = (), ""
        values["prompts"] = tuple(prompts.extract_options(prompt)[0] for prompt in values["prompts"])
    values["reference_path"] = references
    values["mask_strategy"] = _text_list(values.get("mask_strategy"), "mask_strategy") or ("",)
    folder = convert(values.get("save_dir"), str | None, "save_dir") or _SAVE_DIR
    values["save_dir"] = Path(_fill(folder, templates)).expanduser()
    if values.pop("logdate_dir", False):
        values["save_dir"] /= datetime.now().strftime("%y%m%d-%H%M%S")


def _fill(text: str, templates: Mapping[str, str]) -> str:
    for mark, value in templates.items():
        text = text.replace(mark, value)
    return text


def _text_list(value: Any, where: str) -> tuple[str, ...]:
    """Return one text or a list of texts (None is an empty one) as a tuple."""
    values = [] if value is None else [value] if isinstance(value, str) else value
    return tuple(text or "" for text in convert(values, tuple[str | None, ...], where))


def _check_cache(config: RunConfig) -> None:
    """Check the cache against the steps of the run and the depth of the model, where that is known."""
    if config.cache is None:
        return
    depth = _depth(config.model)
    if depth is not None:
        config.cache.check_run(config.scheduler.num_sampling_steps, depth)


def _depth(model: ModelSettings) -> int | None:
    """Return the number of layers, from the checkpoint's config.json or from the type of the model."""
    path = Path(model.from_pretrained)
    file = (path if path.is_dir() else path.parent) / "config.json"
    if path.exists() and file.is_file():
        try:
            depth = json.loads(file.read_text(encoding="utf-8")).get("depth")
        except (ValueError, AttributeError):
            raise ValueError(f"'{file}' is not a JSON object; download the checkpoint again") from None
        if isinstance(depth, int):
            return depth
    return _DEPTHS.get(model.type)
