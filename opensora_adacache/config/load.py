"""Read a config file, apply the command line, check everything, and return an `OpenSoraConfig` or a `PipelineConfig`.

This module loads and writes nothing and does not import torch, so errors appear at once. The rest of the package only
sees dataclasses.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.registry import POLICIES, config_class
from opensora_adacache.config import dialect, pipeline, prompts, resolutions
from opensora_adacache.config.calibrated import fill_in
from opensora_adacache.config.file import read_file
from opensora_adacache.config.keys import (
    CHECKED_KEYS,
    IDLE_KEYS,
    KNOWN_KEYS,
    LOADED,
    PIPELINE_KEYS,
    describes_benchmark,
)
from opensora_adacache.config.merging import get_value, merge, plain_copy, set_value
from opensora_adacache.config.paths import find_config, locate, locate_checkpoint, refuse_url
from opensora_adacache.config.precedence import yield_to
from opensora_adacache.config.section import build, check_keys, convert
from opensora_adacache.config.settings import (
    LARGEST_SIDE,
    VAE_STRIDE,
    VBENCH_VIDEOS,
    ModelSettings,
    OpenSoraConfig,
    RunConfig,
    SchedulerSettings,
)
from opensora_adacache.config.speedup import find_section, identity_of_checkpoint
from opensora_adacache.errors.closest import closest
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import one_line, shown
from opensora_adacache.presets.identity import ModelIdentity, identity_of_pipeline

__all__ = ["RunConfig", "load_config", "locate"]

# Changes that run_sample_image.sh makes to any config. The config's own image section is applied after them.
_IMAGE_RUN = {"save_dir": None, "num_frames": 1, "loop": 1, "mask_strategy": "", "flow": None, "camera_motion": None}

_SAVE_DIR = "samples/videos/{prompts}/{config}"

_DEPTHS = {"STDiT3-XL/2": 28, "STDiT3-3B/2": 28}


def load_config(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
    image: bool = False,
) -> RunConfig:
    """Read a config file in our dialect or in the reference's.

    Args:
        path: a config in mmengine's way of writing (.py, .yaml, .json), with or without ``_base_``, or the name of one
            that ships with the package ("scenes/sample").
        overrides: dotted keys ("scheduler.cfg_scale") and values that override the file.
        defaults: dotted keys and values for keys that the file does not set.
        image: whether to make the images that the videos start from. This sets one frame and no references, then
            applies the config's section ``image``. ``save_dir`` defaults to the folder that the videos read
            (`reference_path`).

    Raises:
        MissingFileError: the config, the prompt file or a local checkpoint does not exist.
        ConfigError: the config is invalid in any other way. The message is one line.
    """
    path = find_config(path)
    values = read_file(path)
    if describes_benchmark(values):
        raise ConfigError(f"config '{path}' describes a benchmark, not a run: opensora-adacache compare makes it")
    defaults, overrides = plain_copy(dict(defaults or {})), plain_copy(dict(overrides or {}))
    if pipeline.is_pipeline(values):
        return _load_pipeline_run(path, values, overrides, defaults, image)
    dialect.check_variables(values)
    for key, value in defaults.items():
        if get_value(values, key) is None:
            set_value(values, key, value)
    section = _plain_section(values.pop("image", None), "image")
    check_keys(section, KNOWN_KEYS, "image")
    if image:
        values |= {**_IMAGE_RUN, "parallel": {}}  # an image is a single frame, which is not split
        yield_to(section, values)
        values = merge(values, section)
    yield_to(overrides, values)
    for key, value in overrides.items():
        if not dialect.forward_override(values, key, value):
            set_value(values, key, value)
    if image and overrides.get("num_frames") not in (None, 1, "1"):
        raise ConfigError(f"an image has one frame, but num_frames is {shown(overrides['num_frames'])}: leave it out")
    _check_sections(values)
    values = dialect.translate(values)
    config = _build(path, values, image)
    _check_cache(config)
    return config


def _load_pipeline_run(
    path: Path, values: dict[str, Any], overrides: Mapping[str, Any], defaults: Mapping[str, Any], image: bool
) -> pipeline.PipelineConfig:
    """Return the run of a diffusers pipeline. Defaults for keys that such runs lack are left out."""
    if image:
        raise ConfigError(f"config '{path}' runs a diffusers pipeline, which needs no first frames: make videos only")
    for key, value in defaults.items():
        if key.split(".")[0] in PIPELINE_KEYS and get_value(values, key) is None:
            set_value(values, key, value)
    if "prompt_path" in overrides:
        values.pop("prompt", None)
    for key, value in overrides.items():
        pipeline.forward_override(values, key, value)
    check_keys(values, PIPELINE_KEYS, "")
    return _build_pipeline_run(path, values)


def pipeline_run(section: Mapping[str, Any], prompt_path: str, seed: int) -> pipeline.PipelineConfig:
    """Return the run of a diffusers pipeline that no config file describes; its videos are not written.

    Args:
        section: the section ``pipeline`` of a config.
        prompt_path: file of prompts.
        seed: seed of the first prompt.

    Raises:
        MissingFileError: the prompt file or a local pipeline does not exist.
        ConfigError: the section is invalid in any other way.
    """
    values = {"pipeline": section, "prompt_path": prompt_path, "seed": seed, "save_fps": 8}
    return _build_pipeline_run(Path(str(section["from_pretrained"])), values)


def _build_pipeline_run(path: Path, values: dict[str, Any]) -> pipeline.PipelineConfig:
    section = _with_local_path(_plain_section(values["pipeline"], "pipeline"), "pipeline")
    settings = build(pipeline.settings_class(section), section, "pipeline")
    identity = identity_of_pipeline(settings.from_pretrained, None, None)
    cache = _build_cache(values.get("cache"), settings.num_inference_steps, lambda: identity)
    values |= {"pipeline": settings, "image_size": settings.image_size, "num_frames": settings.num_frames}
    values["cache"] = cache
    _resolve_prompts(values)
    _resolve_names(values, image=False)
    _resolve_save_dir(values, path.stem)
    return build(pipeline.PipelineConfig, {"path": path, **values}, "")


def _plain_section(section: Any, where: str) -> dict[str, Any]:
    if not isinstance(section, Mapping | None):
        raise ConfigError(f"{where} must be a section such as dict(…), got {shown(section)}")
    return dict(section or {})


def _check_sections(values: Mapping[str, Any]) -> None:
    """Refuse unknown keys, missing sections, and features of the reference that have no counterpart here."""
    check_keys(values, (*KNOWN_KEYS, *dialect.REFERENCE_KEYS), "")
    for name in (*LOADED, "scheduler"):
        if not isinstance(values.get(name), Mapping):
            raise ConfigError(f"the config needs a section {name}=dict(…), got {shown(values.get(name))}")
    model_keys = [field.name for field in fields(ModelSettings)]
    check_keys(values["model"], (*model_keys, *IDLE_KEYS["model"], *dialect.REFERENCE_KEYS), "model")
    if values.get("llm_refine"):
        raise ConfigError("llm_refine needs a service that this package does not call; write refined prompts instead")
    if values.get("multi_resolution") not in (None, "STDiT2", "OpenSora"):
        raise ConfigError(
            f"multi_resolution is {shown(values['multi_resolution'])}; "
            "STDiT3 takes 'STDiT2' (or 'OpenSora', which is the same)"
        )


def _build(path: Path, values: dict[str, Any], image: bool) -> OpenSoraConfig:
    """Resolve names and paths, then build the dataclasses."""
    values = dict(values)
    for key, section in LOADED.items():
        known = {name: value for name, value in values[key].items() if name not in IDLE_KEYS.get(key, ())}
        values[key] = build(section, _with_local_path(known, key), key)
    values["scheduler"] = build(SchedulerSettings, values["scheduler"], "scheduler")
    values["cache"] = _build_cache(
        values.get("cache"), values["scheduler"].num_sampling_steps, lambda: identity_of_checkpoint(values["model"])
    )
    _resolve_size(values)
    _resolve_prompts(values)
    _resolve_names(values, image)
    _resolve_references(values, path.stem, image)
    _resolve_save_dir(values, path.stem)
    for key in CHECKED_KEYS:
        values.pop(key, None)
    config = build(OpenSoraConfig, {"path": path, **values}, "")
    if config.cache is None:
        return config
    return replace(config, cache=config.cache.for_frames(config.num_latent_frames))


def _with_local_path(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Find the checkpoint of a section; see `paths.locate_checkpoint`."""
    name = section.get("from_pretrained")
    found = {"from_pretrained": locate_checkpoint(name, f"{where}.from_pretrained")} if isinstance(name, str) else {}
    return {**section, **found}


def _build_cache(section: Any, num_steps: int, identity: Callable[[], ModelIdentity]) -> CacheConfig | None:
    if section is None:
        return None
    section = _plain_section(section, "cache")
    if section.get("policy") is not None:
        section = find_section(section, num_steps, identity())
    section = fill_in(section, num_steps, "cache")
    if section.get("speedup") is not None and "type" not in section:
        raise ConfigError(
            "cache.speedup needs the policy that it is for: set cache.policy to adacache or forecastcache"
        )
    kind = section.pop("type", "AdaCache")
    if not isinstance(kind, str) or kind not in POLICIES:
        raise ConfigError(
            f"cache.type is {shown(kind)}{closest(kind, POLICIES)}; "
            f"expected one of {', '.join(POLICIES)} (or cache=None)"
        )
    if section.get("moreg") is not None:
        moreg = fill_in(_plain_section(section["moreg"], "cache.moreg"), num_steps, "cache.moreg")
        section["moreg"] = _take_type(moreg, "cache.moreg", "MoReg")
    if section.get("guidance_reuse") is not None:
        section["guidance_reuse"] = _take_type(section["guidance_reuse"], "cache.guidance_reuse", "GuidanceReuse")
    return build(config_class(kind), section, "cache")


def _take_type(section: Any, where: str, expected: str) -> dict[str, Any]:
    section = _plain_section(section, where)
    kind = section.pop("type", expected)
    if kind != expected:
        raise ConfigError(
            f"{where}.type is {shown(kind)}{closest(kind, [expected])}; expected '{expected}' (or {where}=None)"
        )
    return section


def _resolve_size(values: dict[str, Any]) -> None:
    """Resolve named sizes and lengths to numbers."""
    resolution, aspect_ratio = values.pop("resolution", None), values.pop("aspect_ratio", None)
    image_size = values.get("image_size")
    if image_size is None:
        if resolution is None or aspect_ratio is None:
            raise ConfigError(
                "the config needs image_size=(height, width), or resolution and aspect_ratio such as '720p' "
                f"and '9:16'; got resolution {shown(resolution)} and aspect_ratio {shown(aspect_ratio)}"
            )
        # Named sizes such as 480x854 are kept although 854 is not a multiple of the VAE's stride: the model was
        # trained with these numbers as conditions. As in the reference, the picture loses the remainder (6 columns).
        values["image_size"] = resolutions.resolve_image_size(resolution, aspect_ratio)
    else:
        values["image_size"] = convert(image_size, tuple[int, int], "image_size")
        _check_divisible(values["image_size"])
    values["num_frames"] = resolutions.resolve_num_frames(convert(values.get("num_frames"), int | str, "num_frames"))
    interval = convert(values.pop("frame_interval", None), int | None, "frame_interval")
    if interval is not None and interval < 1:
        raise ConfigError(f"frame_interval must be at least 1, got {shown(interval)}")
    if values.get("save_fps") is None and values.get("fps") is not None:
        values["save_fps"] = _quotient(convert(values["fps"], int | float, "fps"), interval or 1)


def _quotient(fps: int | float, interval: int) -> int | float:
    return fps // interval if fps % interval == 0 else fps / interval


def _check_divisible(image_size: tuple[int, int]) -> None:
    for side, pixels in zip(("height", "width"), image_size, strict=True):
        if pixels % VAE_STRIDE and pixels <= LARGEST_SIDE:
            below = max(pixels // VAE_STRIDE, 1) * VAE_STRIDE
            size = "x".join(map(shown, image_size))
            raise ConfigError(
                f"image_size {size}: the {side} must be a multiple of {VAE_STRIDE}, "
                f"got {pixels}; {below} and {below + VAE_STRIDE} are the nearest"
            )


def _resolve_prompts(values: dict[str, Any]) -> None:
    """Read the prompts. A list of prompts overrides a file."""
    start = convert(values.get("start_index") or 0, int, "start_index")
    end = convert(values.pop("end_index", None), int | None, "end_index")
    given = values.pop("prompt", None)
    written = _text_list(given, "prompt")
    if given is not None and not written:
        raise ConfigError("prompt is an empty list; give a text, or None to read the prompts from prompt_path")
    path = convert(values.get("prompt_path"), str | None, "prompt_path")
    if written:
        # Numbering starts at start_index, as in the reference. The list itself starts at its first prompt.
        values["prompts"] = written if end is None else written[: max(end - start, 0)]
        values["prompt_path"] = None
    elif path:
        refuse_url(path, "prompt_path")
        values["prompt_path"] = str(locate(path))
        values["prompts"] = tuple(prompts.read_prompts(values["prompt_path"], start, end))
    else:
        raise ConfigError("no prompts; pass --prompt 'a text' or --prompt-path FILE with one prompt per line")
    if not values["prompts"]:
        raise ConfigError(f"no prompt left: start_index is {start}, end_index {end}; end_index must be larger")
    values["start_index"] = start


def _resolve_names(values: dict[str, Any], image: bool) -> None:
    """Turn ``vbench=True`` into the names and the number of videos that VBench expects. Images keep their names."""
    if not convert(values.pop("vbench", None), bool | None, "vbench") or image:
        return
    if values.get("num_sample") not in (None, VBENCH_VIDEOS):
        raise ConfigError(
            f"vbench=True makes {VBENCH_VIDEOS} videos per prompt, but num_sample is {shown(values['num_sample'])}; "
            "leave num_sample out"
        )
    if values.get("sample_name"):
        raise ConfigError(
            f"vbench=True names videos by their prompts alone, but sample_name is {shown(values['sample_name'])}; "
            "leave sample_name out"
        )
    values |= {"prompt_as_path": True, "num_sample": VBENCH_VIDEOS}


def _resolve_references(values: dict[str, Any], name: str, image: bool) -> None:
    """Turn references and mask strategies, one string or many, into tuples. Images are written where videos read."""
    templates = _templates(values, name)
    references = _text_list(values.get("reference_path"), "reference_path")
    references = tuple(_fill(reference, templates) for reference in references)
    for path in (path for reference in references for path in reference.split(";")):
        refuse_url(path, "reference")
    if image:
        if not values.get("save_dir"):
            if len(references) != 1:
                raise ConfigError("images need a folder: pass --save-dir, or set reference_path to one folder")
            values["save_dir"] = references[0]
        references, values["mask_strategy"] = (), ""
        values["prompts"] = tuple(prompts.extract_options(prompt)[0] for prompt in values["prompts"])
    values["reference_path"] = references
    values["mask_strategy"] = _text_list(values.get("mask_strategy"), "mask_strategy") or ("",)


def _resolve_save_dir(values: dict[str, Any], name: str) -> None:
    folder = convert(values.get("save_dir"), str | None, "save_dir") or _SAVE_DIR
    refuse_url(folder, "save_dir")
    values["save_dir"] = Path(os.path.expanduser(_fill(folder, _templates(values, name))))
    if convert(values.pop("logdate_dir", None), bool | None, "logdate_dir"):
        values["save_dir"] /= datetime.now().strftime("%y%m%d-%H%M%S")


def _templates(values: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return what ``{config}`` and ``{prompts}`` in folders stand for."""
    return {"{config}": name, "{prompts}": Path(values.get("prompt_path") or "prompt").stem}


def _fill(text: str, templates: Mapping[str, str]) -> str:
    for mark, value in templates.items():
        text = text.replace(mark, value)
    return text


def _text_list(value: Any, where: str) -> tuple[str, ...]:
    """Return one string or a list of strings as a tuple; None gives an empty one."""
    values = [] if value is None else [value] if isinstance(value, str) else value
    return tuple(text or "" for text in convert(values, tuple[str | None, ...], where))


def _check_cache(config: OpenSoraConfig) -> None:
    """Check the cache against the steps of the run and, if it is known, the depth of the model."""
    if config.cache is None:
        return
    depth = _depth(config.model)
    if depth is not None:
        try:
            config.cache.check_run(config.scheduler.num_sampling_steps, depth)
        except ValueError as error:
            raise ConfigError(one_line(error)) from None


def _depth(model: ModelSettings) -> int | None:
    """Return the number of layers, from the checkpoint's config.json or the type of the model."""
    path = Path(model.from_pretrained)
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not os.path.exists(path) or not file.is_file():
        return _DEPTHS.get(model.type)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"'{file}' is not a JSON object; download the checkpoint again")
    depth = values.get("depth", _DEPTHS.get(model.type))
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 1):
        raise ConfigError(f"depth in '{file}' must be a whole number of at least 1, got {shown(depth)}")
    return depth
