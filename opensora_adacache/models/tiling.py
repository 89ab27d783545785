"""Decode a picture in tiles that overlap, to hold less at a time.

Letters: H and W height and width of latents, h and w of a tile.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """Return where tiles begin that cover `length`, evenly spaced, each overlapping the next by `overlap` or more.

    >>> tile_starts(160, 64, 16), tile_starts(90, 64, 16), tile_starts(40, 64, 16)
    ([0, 48, 96], [0, 26], [0])
    """
    if length <= size:
        return [0]
    last = -(-(length - overlap) // (size - overlap)) - 1
    return [place * (length - size) // last for place in range(last + 1)]


def decode_tiles(decode: Callable[[Tensor], Tensor], z: Tensor, size: int, overlap: int, factor: int) -> Tensor:
    """Decode pictures tile by tile and blend the tiles.

    Along each edge that lies inside the picture a tile's weight falls linearly to zero over `overlap` latents; pixels
    are the weighted mean of the tiles that cover them.

    Args:
        decode: maps latents [B, C, h, w] to pixels [B, C', h · factor, w · factor].
        z: latents [B, C, H, W].
        size: the largest h and w.
        overlap: latents that neighbours share at least, below `size`.
        factor: pixels per latent along a side.
    """
    height, width = z.shape[-2:]
    rows, columns = (tile_starts(length, size, overlap) for length in (height, width))
    if len(rows) == len(columns) == 1:
        return decode(z)
    pixels: Tensor | None = None
    weights = torch.zeros(height * factor, width * factor, device=z.device)
    for top in rows:
        for left in columns:
            tile = decode(z[..., top : top + size, left : left + size])
            if pixels is None:
                pixels = tile.new_zeros(*tile.shape[:2], *weights.shape, dtype=torch.float32)
            weight = _ramps(top, height, size, overlap, factor)[:, None] * _ramps(left, width, size, overlap, factor)
            weight = weight.to(z.device)
            place = (
                ...,
                slice(top * factor, top * factor + tile.shape[-2]),
                slice(left * factor, left * factor + tile.shape[-1]),
            )
            pixels[place] += tile * weight
            weights[place] += weight
    assert pixels is not None
    return pixels.div_(weights).to(z.dtype)


def _ramps(start: int, length: int, size: int, overlap: int, factor: int) -> Tensor:
    """Return the weights of a tile's pixels along one side."""
    stop = min(start + size, length)
    places = (torch.arange((stop - start) * factor) + 0.5) / (overlap * factor)
    weight = torch.ones_like(places)
    if start > 0:
        weight = weight.minimum(places)
    return weight if stop == length else weight.minimum(places.flip(0))
