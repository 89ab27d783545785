"""Encode references. Of a long video, only the chunks that its mask strategies use are encoded.

The VAE encodes each chunk of `VaeSettings.micro_frame_size` frames separately, so the latents of a chunk are the same
as if the whole video were encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.config.mask_strategy import MaskStrategy
from opensora_adacache.config.settings import OpenSoraConfig
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.generation.masks import resolve_start
from opensora_adacache.media.reading import count_frames, read_chunks

if TYPE_CHECKING:
    from torch import Tensor


def encode_references(
    paths: Sequence[Path], masks: Iterable[MaskStrategy], config: OpenSoraConfig, encode: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Return the latents [C, T, H, W] of the references of a video, with zeros where no mask strategy uses them.

    Args:
        paths: paths of the references.
        masks: mask strategy of the video.
        config: config of the run.
        encode: function that encodes frames [3, F, H, W] as latents.

    Raises:
        MediaError: a file cannot be decoded.
        ConfigError: a mask strategy starts beyond the end of a reference.
    """
    masks = list(masks)
    return [_encode(path, _uses(masks, index), config, encode) for index, path in enumerate(paths)]


def check_references(paths: Sequence[Path], masks: Iterable[MaskStrategy], config: OpenSoraConfig) -> None:
    """Decode the parts of each reference that its mask strategies use. Raises the errors of `encode_references`."""
    masks = list(masks)
    for index, path in enumerate(paths):
        uses = _uses(masks, index)
        chunks = None if _needs_length(uses, config) else _chunks(uses, None, config)
        stop = None if chunks is None else (max(chunks, default=0) + 1) * config.vae.micro_frame_size
        num_latents = config.latents_of(count_frames(path, stop))
        for use in uses:
            try:
                resolve_start(use, "reference_start", num_latents, config.align)
            except ConfigError as error:
                raise ConfigError(f"reference '{path}': {error}") from None


def _encode(path: Path, uses: list[MaskStrategy], config: OpenSoraConfig, encode: Callable[[Tensor], Tensor]) -> Tensor:
    import torch

    length = config.latents_of(count_frames(path)) if _needs_length(uses, config) else None
    chunks = _chunks(uses, length, config)
    if not chunks:
        return torch.zeros(0)
    parts: list[Tensor | int] = []  # latents, or the number of unused latents
    for num_frames, frames in read_chunks(path, config.image_size, config.vae.micro_frame_size, chunks):
        parts.append(config.latents_of(num_frames) if frames is None else encode(frames))
    num_latents = sum(part if isinstance(part, int) else part.shape[1] for part in parts)
    if length is None:  # the length is known only now
        for use in uses:
            resolve_start(use, "reference_start", num_latents, config.align)
    encoded = [part for part in parts if not isinstance(part, int)]
    parts.append(max((length or 0) - num_latents, 0))
    channels, _, height, width = encoded[0].shape
    return torch.cat(
        [encoded[0].new_zeros(channels, part, height, width) if isinstance(part, int) else part for part in parts],
        dim=1,
    )


def _uses(masks: list[MaskStrategy], reference: int) -> list[MaskStrategy]:
    """Return the groups that use a reference. A group with a ratio of 1 generates freely and uses none."""
    return [mask for mask in masks if mask.reference == reference and mask.edit_ratio < 1]


def _needs_length(uses: list[MaskStrategy], config: OpenSoraConfig) -> bool:
    """Return whether starts depend on the reference's length: they count from its end or are aligned (0 stays 0)."""
    return any(use.reference_start < 0 or (use.reference_start > 0 and config.align is not None) for use in uses)


def _chunks(uses: list[MaskStrategy], num_latents: int | None, config: OpenSoraConfig) -> set[int]:
    """Return the chunks of a reference that are used. `num_latents` is its length, or None if it is not needed."""
    per_chunk = config.latents_of(config.vae.micro_frame_size)
    chunks: set[int] = set()
    for use in uses:
        start = use.reference_start
        if num_latents is not None:
            start = resolve_start(use, "reference_start", num_latents, config.align)
        last = start + min(use.length, config.num_latent_frames) - 1
        if num_latents is not None:
            last = min(last, num_latents - 1)
        chunks.update(range(start // per_chunk, last // per_chunk + 1))
    return chunks
