"""Metrics that compare a video with the uncached one of the same prompt and seed, by name.

Videos are [3, F, H, W] in −1..1: raw frames, or the 8-bit frames of a decoded mp4 in the same layout. Each metric is
computed per frame and averaged over frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import Any

import numpy as np

from opensora_adacache.errors.closest import closest
from opensora_adacache.metrics.frames import frame_pairs
from opensora_adacache.metrics.lpips import Lpips, MetricUnavailable, require_torchmetrics
from opensora_adacache.metrics.motion import flicker, motion_error

Metric = Callable[[Any, Any], float]

PSNR_CAP = 100.0
"""What equal frames count as, in dB."""
SSIM_SIGMA = 1.5
SSIM_WINDOW = 11


def psnr(frames: Any, reference: Any, cap: float = PSNR_CAP) -> float:
    """Return the PSNR in dB of two videos [3, F, H, W] in −1..1, averaged over frames. Equal frames have a fixed cap.

    Raises:
        ValueError: their shapes differ.
    """
    errors = [((one - other) ** 2).mean() for one, other in frame_pairs(frames, reference)]
    return fmean(cap if error == 0 else min(10 * math.log10(4 / error), cap) for error in errors)


def ssim(frames: Any, reference: Any) -> float:
    """Return the structural similarity of two videos [3, F, H, W] in −1..1, averaged over frames.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004), with torchmetrics:
    Gaussian window of 11×11 pixels with σ 1.5, constants 0.01 and 0.03, per colour channel, averaged where the window
    lies inside the frame (torchmetrics by itself also averages over mirrored borders). Pixels are shifted to 0..1
    first because SSIM, unlike PSNR, depends on the black level. The computation is in float32, which causes errors of
    up to 5e-4 in flat regions.

    Raises:
        ValueError: the shapes differ, a side is shorter than the window, or torchmetrics is not installed.
    """
    require_torchmetrics("ssim")
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    pairs = frame_pairs(frames, reference)
    height, width = np.shape(frames)[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs frames of at least {SSIM_WINDOW} pixels a side, got {height}x{width}")
    border, values = SSIM_WINDOW // 2, []
    for pair in pairs:
        picture, target = (torch.from_numpy((frame[None] + 1) / 2).float() for frame in pair)
        _, similarity = structural_similarity_index_measure(
            picture, target, sigma=SSIM_SIGMA, data_range=1.0, return_full_image=True
        )
        values.append(similarity[..., border:-border, border:-border].mean().item())
    return fmean(values)


# Each entry creates its metric on demand, so that unused metrics import nothing heavy and load no weights.
METRICS: dict[str, Callable[[], Metric]] = {
    "psnr": lambda: psnr,
    "ssim": lambda: ssim,
    "lpips": Lpips.load,
    "flicker": lambda: lambda frames, reference: flicker(frames),
    "motion_error": lambda: motion_error,
}
_OF_TORCHMETRICS = ("ssim", "lpips")


def check_metrics(names: Iterable[str]) -> None:
    """Check, before any video is made, that metrics exist and that their packages are installed.

    Raises:
        ValueError: a name is unknown, or the package that a metric needs is not installed.
    """
    for name in names:
        if name not in METRICS:
            hint = closest(name, METRICS) or ";"
            raise ValueError(f"unknown metric '{name}'{hint} expected one of {', '.join(METRICS)}")
        if name in _OF_TORCHMETRICS:
            require_torchmetrics(name)


def load_metrics(names: Iterable[str]) -> tuple[dict[str, Metric], dict[str, str]]:
    """Return the named metrics, and the reasons for those that this machine cannot compute.

    A metric is a function of a video and its reference that returns a number.

    Raises:
        ValueError: see `check_metrics`.
    """
    names = list(names)
    check_metrics(names)
    metrics, reasons = {}, {}
    for name in names:
        try:
            metrics[name] = METRICS[name]()
        except MetricUnavailable as reason:
            reasons[name] = str(reason)
    return metrics, reasons
