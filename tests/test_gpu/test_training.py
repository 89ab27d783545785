"""The first steps of training on a CUDA device; run them before a long training (`make test-gpu`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opensora_adacache.scenes.pool import CHUNK, Pool
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.spatial import SpatialRecipe, train_spatial
from opensora_adacache.scenes.stage import Budget
from opensora_adacache.scenes.structure import TRANSFORMER, spatial_factor
from opensora_adacache.scenes.temporal import TemporalRecipe, train_temporal
from opensora_adacache.scenes.transformer import GeneratorRecipe, train_generator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("default"),  # of torch and its compiler on whatever device this is
]

CUDA = torch.device("cuda")
SIZE = 96


def losses(folder: Path, stage: str) -> np.ndarray:
    """Return rows of a number of steps and their mean loss: every 50 steps, or fewer if they took long."""
    table = np.loadtxt(folder / f"{stage}.csv", delimiter=",", skiprows=1, ndmin=2)
    return np.stack([np.diff(table[:, 0], prepend=0), table[:, 2]], 1)


def test_the_losses_of_the_vae_fall(tmp_path):
    pytest.importorskip("diffusers")
    # Losses of windows and of whole frames cannot be compared, so there are only windows.
    recipe = SpatialRecipe(clips=16, crop_frames=2, crops_until=1.0)
    spatial = train_spatial(recipe, tmp_path, Budget(steps=150), CUDA, SIZE)
    first, *_, last = losses(tmp_path, "spatial")[:, 1]
    assert last < 0.7 * first
    train_temporal(
        TemporalRecipe(windows=8, held=64, windows_until=1.0), spatial, tmp_path, Budget(steps=150), CUDA, SIZE
    )
    first, *_, last = losses(tmp_path, "temporal")[:, 1]
    assert last < first


def noise_pool(render: Renderer) -> Pool:
    side = SIZE // spatial_factor()
    generator = torch.Generator(CUDA).manual_seed(0)
    return Pool(
        lambda clips: torch.randn(len(clips), TRANSFORMER.in_channels, 5, side, side, device=CUDA, generator=generator),
        render,
        2 * CHUNK,
        0,
    )


def test_compiled_blocks_train_as_eager_ones_do(tmp_path):
    recipe = GeneratorRecipe(batch=32, tag_steps=0, renew_every=1000, warm_up=10)
    found = []
    for name, compiled in (("eager", False), ("compiled", True)):
        pool = noise_pool(Renderer(CUDA, SIZE))
        train_generator(recipe, pool, tmp_path / name, Budget(steps=20), compiled=compiled)
        counts, means = losses(tmp_path / name, "transformer").T
        found.append(np.average(means, weights=counts))
    assert np.isfinite(found).all() and found[1] == pytest.approx(found[0], rel=0.02)
