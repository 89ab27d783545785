"""The settings of a run of a diffusers pipeline: the section ``pipeline`` of a config, and the whole config.

A config with this section describes a pipeline's run. Everything that is not about the models (prompts, seeds, files,
the section ``cache``) is as in any other config. This module does not import torch or diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from opensora_adacache.config.limits import MOST
from opensora_adacache.config.merging import get_value, set_value
from opensora_adacache.config.section import convert
from opensora_adacache.config.settings import Dtype, RunConfig
from opensora_adacache.errors.closest import closest
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import shown

STEPS = "num_inference_steps"
# Arguments of a pipeline's call that a run sets itself.
_OWN_ARGUMENTS = ("prompt", "generator", "output_type", "return_dict", "callback_on_step_end", "latents")
# Names that pipelines give the number of frames.
_FRAMES = ("num_frames", "video_length")
# Keys and flags of Open-Sora's configs -> where a pipeline's config holds the same.
_COUNTERPARTS = {
    "num_sampling_steps": f"pipeline.call.{STEPS}",
    "scheduler.num_sampling_steps": f"pipeline.call.{STEPS}",
    "scheduler.cfg_scale": "pipeline.call.guidance_scale",
    "model.from_pretrained": "pipeline.from_pretrained",
    "dtype": "pipeline.torch_dtype",
}


@dataclass(frozen=True)
class PipelineSettings:
    """A pipeline of diffusers and the arguments of its call.

    Attributes:
        from_pretrained: local folder or hub name, with a ``model_index.json`` that names the pipeline's class.
        call: arguments of the pipeline's call, such as ``num_frames``, ``height``, ``width`` and ``guidance_scale``.
            ``num_inference_steps`` is required. The run itself sets the prompt and the generator.
        scheduler: changes of the scheduler's config, such as ``dict(flow_shift=3.0)``; ``type`` names another class of
            diffusers. None keeps the scheduler of the checkpoint.
        torch_dtype: dtype of the weights, or dtypes by component, such as ``dict(default="bf16", vae="fp32")``.
            diffusers keeps the modules in float32 that a model names for it.
        offload: "model", "group" or "sequential" keeps weights on the CPU while they are not needed (see diffusers'
            guide to memory). None keeps them on the GPU. It has no effect without a GPU.
        device_map: how the components are spread over several GPUs, such as "balanced". None takes one device.
        vae_tiling: decode pictures in tiles, which saves memory and changes the video slightly.
        variant: variant of the weight files, such as "fp16".
        revision: branch, tag or commit of a hub name. None takes the newest.
        cache_dir: folder for downloads. None takes the hub's default.
        local_files_only: use only files that were downloaded before, without network access.
    """

    from_pretrained: str
    call: Mapping[str, Any]
    type: Literal["diffusers"] = "diffusers"
    scheduler: Mapping[str, Any] | None = None
    torch_dtype: Dtype | Mapping[str, Dtype] = "bf16"
    offload: Literal["model", "group", "sequential"] | None = None
    device_map: str | None = None
    vae_tiling: bool = False
    variant: str | None = None
    revision: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False

    def __post_init__(self) -> None:
        for name in _OWN_ARGUMENTS:
            if name in self.call:
                raise ConfigError(f"call must not set '{name}', which the run sets for each video")
        if self.offload and self.device_map:
            raise ConfigError("offload and device_map both say where weights are kept: leave one of them out")
        for section in ("call", "scheduler"):
            for name, value in (getattr(self, section) or {}).items():
                if not _is_plain(value):
                    raise ConfigError(
                        f"{section}.{name} must be a finite number, a string, a list or a dict, got {shown(value)}"
                    )
        if self.call.get(STEPS) is None:
            raise ConfigError(f"call needs {STEPS}, the number of denoising steps, such as dict({STEPS}=50)")
        for name in (STEPS, "height", "width", *_FRAMES):
            if self.call.get(name) is not None and not 1 <= convert(self.call[name], int, f"call.{name}") <= MOST:
                raise ConfigError(f"call.{name} must be at least 1 and at most {MOST}, got {shown(self.call[name])}")

    def dtype_of(self, component: str) -> Dtype:
        """Return the dtype of a component, which diffusers loads in float32 if no dtype is given for it."""
        if isinstance(self.torch_dtype, str):
            return self.torch_dtype
        return self.torch_dtype.get(component, self.torch_dtype.get("default", "fp32"))

    @property
    def num_inference_steps(self) -> int:
        """Number of denoising steps."""
        return self.call[STEPS]

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, or None if the call leaves one of them to the pipeline."""
        height, width = self.call.get("height"), self.call.get("width")
        return None if height is None or width is None else (height, width)

    @property
    def num_frames(self) -> int | None:
        """Number of frames, or None if the call leaves it to the pipeline."""
        return next((self.call[name] for name in _FRAMES if self.call.get(name) is not None), None)


@dataclass(frozen=True)
class OpenSoraPlanSettings(PipelineSettings):
    """Open-Sora-Plan 1.1, whose pipeline and models are those of its own source tree.

    Attributes:
        source: folder with the source of Open-Sora-Plan v1.1.0.
        transformer: subfolder of the checkpoint with the transformer, one for each length of videos.
        text_encoder: local folder or hub name of the T5 encoder and its tokenizer.
    """

    type: Literal["open_sora_plan"] = "open_sora_plan"  # type: ignore[assignment]
    source: str = "Open-Sora-Plan"
    transformer: str = "65x512x512"
    text_encoder: str = "DeepFloyd/t5-v1_1-xxl"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("offload", "device_map"):
            if getattr(self, name):
                raise ConfigError(f"{name} is not for Open-Sora-Plan, whose pipeline computes on one device: omit it")


def settings_class(section: Mapping[str, Any]) -> type[PipelineSettings]:
    """Return the class of settings that the ``type`` of a section ``pipeline`` names."""
    names = ("diffusers", "open_sora_plan")
    name = section.get("type", names[0])
    if name not in names:
        raise ConfigError(f"pipeline.type is {shown(name)}{closest(name, names)}; expected one of {', '.join(names)}")
    return PipelineSettings if name == names[0] else OpenSoraPlanSettings


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(RunConfig):
    """A run of a diffusers pipeline.

    Attributes:
        pipeline: the pipeline and the arguments of its call, which determine `image_size` and `num_frames`.
    """

    pipeline: PipelineSettings = field()

    @property
    def num_sampling_steps(self) -> int:
        return self.pipeline.num_inference_steps


# Keys of such a config at the top level that are fields of `PipelineConfig`.
FIELD_KEYS = tuple(
    each.name for each in fields(PipelineConfig) if each.name not in ("path", "prompts", "image_size", "num_frames")
)


def is_pipeline(values: Mapping[str, Any]) -> bool:
    """Return whether the values of a config file describe the run of a pipeline."""
    return values.get("pipeline") is not None


def forward_override(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a key of a pipeline's config; flags and keys of Open-Sora's configs go to their counterparts."""
    for counterpart, part in _counterparts(values, key, value):
        set_value(values, counterpart, part)


def _counterparts(values: Mapping[str, Any], key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key == "num_frames":
        call = get_value(values, "pipeline.call") or {}
        name = next((name for name in _FRAMES if name in call), _FRAMES[0])
        yield f"pipeline.call.{name}", int(value) if isinstance(value, str) and value.isdecimal() else value
    elif key == "image_size":
        height, width = convert(value, tuple[int, int], "image_size")
        yield "pipeline.call.height", height
        yield "pipeline.call.width", width
    else:
        yield _COUNTERPARTS.get(key, key), value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
