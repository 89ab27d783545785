"""Compiles the transformer's training step in advance, in a separate process while the VAE trains.

The compiled code goes to torch's cache on disk, where the training process finds it. Run it as
``python -m opensora_adacache.scenes.warm BATCH SIZE``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from opensora_adacache.scenes.pool import CHUNK, Pool
from opensora_adacache.scenes.render import Renderer
from opensora_adacache.scenes.stage import Budget
from opensora_adacache.scenes.structure import TRANSFORMER, spatial_factor
from opensora_adacache.scenes.transformer import GeneratorRecipe, train_generator


def start(batch: int, size: int) -> subprocess.Popen:
    """Start to compile for this batch size and clip size."""
    return subprocess.Popen([sys.executable, "-m", __name__, str(batch), str(size)], stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen | None) -> None:
    """Stop the process if it is still running; the training process then compiles what is missing."""
    if process and process.poll() is None:
        process.kill()
    if process:
        process.wait()


def main(batch: int, size: int) -> None:
    """Take three training steps on noise."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")

    def encode(clips: Tensor) -> Tensor:
        side = size // spatial_factor()
        return torch.randn(len(clips), TRANSFORMER.in_channels, 5, side, side, device=device)

    recipe = GeneratorRecipe(batch=batch, tag_steps=0, renew_every=1000)
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(encode, Renderer(device, size), CHUNK, 0)
        train_generator(recipe, pool, Path(folder), Budget(steps=3), compiled=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
