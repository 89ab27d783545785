"""LPIPS with AlexNet: the difference of two frames in the features of an image classifier.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018). The linear heads (version
0.1) come with torchmetrics. The convolutions of AlexNet are read from torchvision's published checkpoint: at the path
in the environment variable OPENSORA_ADACACHE_ALEXNET, or in the download folder of ``torch.hub``. This module downloads
nothing and does not need torchvision.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from opensora_adacache.metrics.frames import frame_pairs

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
VARIABLE = "OPENSORA_ADACACHE_ALEXNET"
DOWNLOAD = f"python -c \"import torch; torch.hub.load_state_dict_from_url('{CHECKPOINT_URL}', check_hash=True)\""

# For each convolution: its index in the checkpoint, stride, padding, and whether 3×3 max pooling precedes it.
_CONVOLUTIONS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
_SHAPES = ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3))
# Mean and standard deviation of the pictures AlexNet was trained on, for values in −1..1.
_MEAN = (-0.030, -0.088, -0.188)
_DEVIATION = (0.458, 0.448, 0.450)
_EPSILON = 1e-8
# Smaller frames are empty after the two poolings.
MIN_SIDE = 31


class MetricUnavailable(RuntimeError):
    """The metric cannot be computed on this machine, for the reason in the message. Its column stays empty."""


def require_torchmetrics(metric: str) -> None:
    """Raise ValueError, naming the extra to install, if torchmetrics is missing."""
    if find_spec("torchmetrics") is None:
        raise ValueError(
            f"metric '{metric}' needs torchmetrics, which is not installed; run pip install 'opensora-adacache[eval]'"
        )


def checkpoint_path() -> Path:
    """Return the path of AlexNet's checkpoint: that in `VARIABLE`, or where torch.hub (and so torchvision) keeps it."""
    if os.environ.get(VARIABLE):
        return Path(os.path.expanduser(os.environ[VARIABLE]))
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / CHECKPOINT_URL.rpartition("/")[2]


class Lpips:
    """LPIPS of two videos, with AlexNet's convolutions and the linear heads.

    Args:
        weights: the weights ``features.{0,3,6,8,10}.{weight,bias}`` of AlexNet.
        heads: for each layer, the weights [C] of its channels.
    """

    def __init__(self, weights: Mapping[str, Tensor], heads: list[Tensor]) -> None:
        self._layers = [
            (weights[f"features.{place}.weight"].float(), weights[f"features.{place}.bias"].float())
            for place, *_ in _CONVOLUTIONS
        ]
        self._heads = heads

    @classmethod
    def load(cls, path: Path | None = None) -> Lpips:
        """Load the metric from torchvision's checkpoint of AlexNet; None means `checkpoint_path`.

        Raises:
            MetricUnavailable: the checkpoint is missing, or is not AlexNet's.
            ValueError: torchmetrics is not installed.
        """
        require_torchmetrics("lpips")
        import torch

        path = path or checkpoint_path()
        if not path.is_file():
            raise MetricUnavailable(
                f"LPIPS needs AlexNet's weights, and there is no '{path}'; run {DOWNLOAD}, or set {VARIABLE}"
            )
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            shapes = tuple(tuple(weights[f"features.{place}.weight"].shape) for place, *_ in _CONVOLUTIONS)
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
            shapes = ()
        if shapes != _SHAPES:
            raise MetricUnavailable(f"LPIPS needs AlexNet's weights, '{path}' holds none; delete it and run {DOWNLOAD}")
        return cls(weights, _load_heads())

    def __call__(self, frames: Any, reference: Any) -> float:
        """Return the LPIPS of two videos [3, F, H, W] in −1..1, averaged over frames.

        Raises:
            ValueError: the shapes differ, or a side is shorter than 31 pixels.
        """
        pairs = frame_pairs(frames, reference)
        height, width = np.shape(frames)[-2:]
        if min(height, width) < MIN_SIDE:
            raise ValueError(f"LPIPS needs frames of at least {MIN_SIDE} pixels a side, got {height}x{width}")
        return fmean(self._distance(one, other) for one, other in pairs)

    def _distance(self, one: np.ndarray, other: np.ndarray) -> float:
        """Return the distance of two frames [3, H, W]: squared feature differences, weighted by the heads."""
        import torch

        with torch.inference_mode():
            pictures = torch.from_numpy(np.stack([one, other])).float()
            return sum(
                ((features[0] - features[1]).square().mean(dim=(1, 2)) * head).sum().item()
                for features, head in zip(self._features(pictures), self._heads, strict=True)
            )

    def _features(self, x: Tensor) -> list[Tensor]:
        """Return the features [2, C, h, w] of two pictures in each layer, with unit length at each position."""
        import torch
        from torch.nn import functional

        mean, deviation = (x.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        x, found = (x - mean) / deviation, []
        for (weight, bias), (_, stride, padding, pool) in zip(self._layers, _CONVOLUTIONS, strict=True):
            if pool:
                x = functional.max_pool2d(x, kernel_size=3, stride=2)
            x = functional.conv2d(x, weight, bias, stride, padding).relu()
            found.append(x / torch.sqrt(x.square().sum(dim=1, keepdim=True) + _EPSILON))
        return found


def _load_heads() -> list[Tensor]:
    """Return the weights [C] of the linear head of each layer."""
    import torch

    with as_file(files("torchmetrics.functional.image") / "lpips_models" / "alex.pth") as path:
        heads = torch.load(path, map_location="cpu", weights_only=True)
    return [heads[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(_CONVOLUTIONS))]
