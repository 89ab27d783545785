"""Place references in the latents of a batch according to their mask strategies.

Shapes: B videos, C latent channels, T latent frames, H and W latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opensora_adacache.config.mask_strategy import MaskStrategy, parse_mask_strategy
from opensora_adacache.errors.family import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


def apply_mask_strategy(
    z: Tensor,
    references: Sequence[Sequence[Tensor]],
    strategies: Sequence[str | Sequence[MaskStrategy]],
    loop: int = 0,
    align: int | None = None,
) -> Tensor | None:
    """Write references into the latents `z` in place and return the mask for the sampler.

    Args:
        z: latents [B, C, T, H, W]. They are modified where a group of this loop applies.
        references: references of each video, as latents [C, T', H, W] with any T'.
        strategies: mask strategy of each video, as a string or parsed.
        loop: loop whose groups to apply.
        align: round starts to multiples of this; see `find_nearest_point`.

    Returns:
        float32 mask [B, T]: 1 generates, 0 keeps the reference, values between are edit ratios. None if every
        entry is 1, so that the sampler skips the work for masks. (The reference passes ones, with the same
        videos.)

    Raises:
        ConfigError: a group refers to a missing reference or start, or shapes do not match. All videos are
            checked before `z` is modified.
    """
    if not len(references) == len(strategies) == z.shape[0]:
        raise ConfigError(
            f"expected references and strategies for {z.shape[0]} videos, got {len(references)} and {len(strategies)}"
        )
    copies = []
    for video, (video_references, strategy) in enumerate(zip(references, strategies, strict=True)):
        groups = parse_mask_strategy(strategy) if isinstance(strategy, str) else strategy
        for group in groups:
            # A ratio of 1 generates freely. The reference implementation still starts such latents from the copy.
            if group.loop == loop and group.edit_ratio < 1:
                reference, source, target = _locate(group, video_references, tuple(z.shape[1:]), align)
                copies.append((video, target, reference[:, source], group.edit_ratio))

    mask = z.new_ones(z.shape[0], z.shape[2]).float()
    for video, target, latents, edit_ratio in copies:
        z[video, :, target] = latents.to(z)
        mask[video, target] = edit_ratio
    return mask if copies else None


def _locate(
    group: MaskStrategy, references: Sequence[Tensor], shape: tuple[int, ...], align: int | None
) -> tuple[Tensor, slice, slice]:
    """Return the reference of a group, and slices of equal length in it and in the video (`shape` [C, T, H, W])."""
    if group.reference >= len(references):
        raise ConfigError(
            f"mask strategy group '{group}' names reference {group.reference}, but the video has "
            f"{len(references)}; references count from 0 and are separated by ';' in reference_path"
        )
    reference = references[group.reference]
    channels, num_target, *size = shape
    if (reference.shape[0], *reference.shape[2:]) != (channels, *size):
        raise ConfigError(
            f"reference of mask strategy group '{group}' has shape {tuple(reference.shape)}, expected "
            f"[{channels}, T, {', '.join(map(str, size))}]; encode it at the size of the video"
        )
    num_source = reference.shape[1]
    source = resolve_start(group, "reference_start", num_source, align)
    target = resolve_start(group, "target_start", num_target, align)
    length = min(group.length, num_source - source, num_target - target)
    return reference, slice(source, source + length), slice(target, target + length)


def resolve_start(group: MaskStrategy, field: str, num_latents: int, align: int | None) -> int:
    """Return the latent at which a group starts. Starts can count from the end, and are aligned.

    Args:
        group: group of a mask strategy.
        field: "reference_start" or "target_start".
        num_latents: number of latents of the reference or of the video.
        align: see `find_nearest_point`. None does not round.

    Raises:
        ConfigError: the start is beyond the latents.
    """
    start = given = getattr(group, field)
    if start < 0:
        start += num_latents
    if not 0 <= start < num_latents:
        raise ConfigError(
            f"mask strategy group '{group}' has {field} {given}, but there are {num_latents} latents; "
            f"expected {-num_latents}..{num_latents - 1}"
        )
    return start if align is None else find_nearest_point(start, align, num_latents)


def find_nearest_point(value: int, point: int, max_value: int) -> int:
    """Round a start to a multiple of `point`, upwards only if `point` latents fit after it.

    The VAE encodes each chunk of 17 frames separately to 5 latents, so with ``align=5`` a start falls on the first
    latent of such a chunk. Halves round down. `max_value` is the total number of latents.

    >>> find_nearest_point(8, 5, 15), find_nearest_point(14, 5, 15)
    (10, 10)
    """
    index, rest = divmod(value, point)
    if 2 * rest > point and (index + 2) * point <= max_value:
        index += 1
    return index * point
