"""The watermark changes a corner and nothing else."""

from __future__ import annotations

import pytest
import torch

from opensora_adacache.media.watermark import add_watermark


@pytest.mark.parametrize("size", [(64, 64), (720, 1280), (1280, 720)])
def test_only_the_lower_right_corner_is_lightened(size):
    frames = torch.full((3, 2, *size), -0.5)
    marked = add_watermark(frames)
    changed = (marked != frames).any(0).any(0)
    assert changed.any() and (marked >= frames).all() and marked.max() <= 1
    assert not changed[: int(size[0] * 0.85)].any()
    rows, columns = changed.nonzero().T
    assert columns.min() >= 0 and rows.max() < size[0]
