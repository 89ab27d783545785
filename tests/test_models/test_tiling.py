"""Tiles: they cover everything, and blending keeps what does not depend on the tile."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_adacache.models.tiling import decode_tiles, tile_starts

TILES = st.integers(2, 12).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1)))


@given(length=st.integers(1, 60), tile=TILES)
def test_tiles_cover_the_length_and_overlap(length, tile):
    size, overlap = tile
    starts = tile_starts(length, size, overlap)
    assert starts[0] == 0
    assert max(starts) + size == length if length > size else starts == [0]
    assert all(0 < after - before <= size - overlap for before, after in zip(starts, starts[1:], strict=False))


@given(height=st.integers(1, 20), width=st.integers(1, 20), tile=TILES)
def test_a_decoder_that_sees_one_latent_at_a_time_is_left_as_it_is(height, width, tile):
    z = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    sizes = []

    def decode(part):
        sizes.append(max(part.shape[-2:]))
        return part.repeat_interleave(4, -1).repeat_interleave(4, -2)

    torch.testing.assert_close(decode_tiles(decode, z, *tile, 4), decode(z), rtol=0, atol=1e-5)
    assert all(size <= tile[0] for size in sizes[:-1])
