"""The text features that each pipeline's `encode_prompt` returns, as zeros: their shapes are what costs depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Letters: L text tokens of a row. Each function gets the pipeline, the arguments of its call, and L or None for the
# number of tokens that the pipeline pads a prompt to.
_Texts = Callable[[Any, Mapping[str, Any], int | None], tuple["Tensor", ...]]


def empty_texts(name: str, pipeline: Any, call: Mapping[str, Any], num_text_tokens: int | None) -> tuple[Tensor, ...]:
    """Return what `encode_prompt` of a pipeline returns, filled with zeros (masks with ones).

    Args:
        name: class of the pipeline, one of `TEXTS`.
        pipeline: the pipeline.
        call: arguments of its call.
        num_text_tokens: L, or None for the number of tokens that the pipeline pads a prompt to.
    """
    return TEXTS[name](pipeline, call, num_text_tokens)


def _latte(pipeline: Any, call: Mapping[str, Any], length: int | None) -> tuple[Tensor, ...]:
    return _pair(length or 120, pipeline.transformer.config.caption_channels)


def _cogvideox(pipeline: Any, call: Mapping[str, Any], length: int | None) -> tuple[Tensor, ...]:
    return _pair(length or _longest(call, 226), pipeline.transformer.config.text_embed_dim)


def _wan(pipeline: Any, call: Mapping[str, Any], length: int | None) -> tuple[Tensor, ...]:
    return _pair(length or _longest(call, 512), (pipeline.transformer or pipeline.transformer_2).config.text_dim)


def _hunyuan_video(pipeline: Any, call: Mapping[str, Any], length: int | None) -> tuple[Tensor, ...]:
    import torch

    config, length = pipeline.transformer.config, length or _longest(call, 256)
    features = torch.zeros(1, length, config.text_embed_dim)
    return features, torch.zeros(1, config.pooled_projection_dim), torch.ones(1, length)


def _ltx(pipeline: Any, call: Mapping[str, Any], length: int | None) -> tuple[Tensor, ...]:
    return _masked_pair(length or _longest(call, 128), pipeline.transformer.config.caption_channels)


TEXTS: dict[str, _Texts] = {
    "LattePipeline": _latte,
    "CogVideoXPipeline": _cogvideox,
    "WanPipeline": _wan,
    "HunyuanVideoPipeline": _hunyuan_video,
    "LTXPipeline": _ltx,
}
"""Class of a pipeline → function that makes its text features."""


def _longest(call: Mapping[str, Any], default: int) -> int:
    return call.get("max_sequence_length", default)


def _pair(length: int, channels: int) -> tuple[Tensor, ...]:
    """Return features of a prompt and of the negative prompt, [1, L, C] each."""
    import torch

    return torch.zeros(1, length, channels), torch.zeros(1, length, channels)


def _masked_pair(length: int, channels: int) -> tuple[Tensor, ...]:
    """Return features and mask of a prompt and of the negative prompt, [1, L, C] and [1, L]."""
    import torch

    features, mask = torch.zeros(1, length, channels), torch.ones(1, length)
    return features, mask, features, mask
