"""Load Open-Sora-Plan 1.1 from a checkpoint and a folder with its source, as a pipeline with diffusers' conventions."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.utils import BaseOutput
from torch import Tensor

from opensora_adacache.adapters.open_sora_plan.source import import_latte_t2v, import_pipeline, import_vae
from opensora_adacache.config.paths import locate
from opensora_adacache.config.pipeline import OpenSoraPlanSettings
from opensora_adacache.config.pipeline_class import check_call, hub_options
from opensora_adacache.errors.family import ConfigError, MissingFileError
from opensora_adacache.errors.shown import one_line
from opensora_adacache.generation.diffusers.dtypes import dtype_argument
from opensora_adacache.generation.dtypes import DTYPES

VAE_STRIDES = (4, 8, 8)
"""Frames, rows and columns of a video for one of its latents. The source sets them after loading, and so do we."""
# The weights of the loss, which only training needs, would be downloaded.
_NO_LOSS = {"loss_type": "torch.nn.Identity", "loss_params": {}}


@dataclass
class TextToVideoOutput(BaseOutput):
    """Latents, or frames [B, F, 3, H, W] in 0..1."""

    frames: Tensor


@dataclass(frozen=True)
class _Source:
    transformer: type[Any]
    vae: type[Any]
    pipeline: type[Any]


def check_open_sora_plan(settings: OpenSoraPlanSettings) -> None:
    """Raise the errors of `load_open_sora_plan` that need no weights.

    Raises:
        OSError: the checkpoint is a local folder without the transformer or the VAE.
        ConfigError: the source is missing, of another version, or needs a package that is not installed; or the
            pipeline does not take the arguments of the call.
    """
    check_call(_import(settings).pipeline, settings.call)
    folder = Path(settings.from_pretrained)
    for part in (settings.transformer, "vae"):
        if folder.exists() and not (folder / part / "config.json").is_file():
            raise MissingFileError(
                f"'{settings.from_pretrained}' has no {part}/config.json: expected a checkpoint of Open-Sora-Plan 1.1"
            )


def load_open_sora_plan(settings: OpenSoraPlanSettings) -> Any:
    """Return the pipeline of Open-Sora-Plan on the CPU, with the PNDM scheduler of its sampling script.

    Raises:
        OSError: a part does not exist, or cannot be downloaded from the hub.
        ConfigError: see `check_open_sora_plan`.
    """
    from diffusers import PNDMScheduler
    from transformers import AutoTokenizer, T5EncoderModel

    source, hub = _import(settings), hub_options(settings)
    dtypes = {name: DTYPES[settings.dtype_of(name)] for name in ("transformer", "vae", "text_encoder")}
    text_hub = {name: value for name, value in hub.items() if name != "revision"}  # that of the checkpoint
    vae = source.vae(
        settings.from_pretrained,
        subfolder="vae",
        **{dtype_argument(): dtypes["vae"]},
        **_NO_LOSS,
        **hub,
    )
    vae.vae_scale_factor = VAE_STRIDES
    vae.enable_tiling = vae.vae.enable_tiling
    transformer = source.transformer.from_pretrained(
        settings.from_pretrained,
        subfolder=settings.transformer,
        variant=settings.variant,
        **{dtype_argument(): dtypes["transformer"]},
        **hub,
    )
    pipeline = _with_conventions(source.pipeline)(
        tokenizer=AutoTokenizer.from_pretrained(settings.text_encoder, **text_hub),
        text_encoder=T5EncoderModel.from_pretrained(settings.text_encoder, dtype=dtypes["text_encoder"], **text_hub),
        vae=vae,
        transformer=transformer,
        scheduler=PNDMScheduler(),
    )
    for part in (pipeline.text_encoder, vae, transformer):
        part.eval().requires_grad_(False)
    return pipeline


def _import(settings: OpenSoraPlanSettings) -> _Source:
    folder = locate(settings.source).resolve()
    if not folder.is_dir():
        raise ConfigError(
            f"pipeline.source '{settings.source}' does not exist: expected a folder with the source of Open-Sora-Plan; "
            "run git clone --branch v1.1.0 https://github.com/PKU-YuanGroup/Open-Sora-Plan"
        )
    try:
        source = _Source(import_latte_t2v(folder), import_vae(folder), import_pipeline(folder))
    except ModuleNotFoundError as error:
        package = (error.name or "").replace("_", "-")
        raise ConfigError(f"the source of Open-Sora-Plan needs {package}: run pip install {package}") from None
    except ValueError as error:
        raise ConfigError(f"pipeline.source: {one_line(error)}") from None
    if "compress_kv_factor" not in inspect.signature(source.transformer.__init__).parameters:
        raise ConfigError(f"pipeline.source '{settings.source}' is another version of Open-Sora-Plan: expected v1.1.0")
    return source


def _with_conventions(kind: type[Any]) -> type[Any]:
    """Return the source's pipeline with the output that diffusers' video pipelines have.

    Its own output has 8 bits per value, which hides values that are not finite.
    """

    class OpenSoraPlanPipeline(kind):  # type: ignore[misc, valid-type]
        @functools.wraps(kind.__call__)
        def __call__(self, *args: Any, output_type: str = "pt", return_dict: bool = True, **kwargs: Any) -> Any:
            own_type = "latents" if output_type == "latent" else output_type
            video = super().__call__(*args, output_type=own_type, **kwargs).video
            frames = video if output_type == "latent" else video.movedim(-1, 2)
            return TextToVideoOutput(frames) if return_dict else (frames,)

        def decode_latents(self, latents: Any) -> Any:
            """Return frames [B, F, H, W, 3] in 0..1."""
            return (self.vae.decode(latents) / 2 + 0.5).clamp(0, 1).movedim(2, -1)

    return OpenSoraPlanPipeline
