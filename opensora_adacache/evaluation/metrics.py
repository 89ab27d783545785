"""How far a video is from the uncached one of the same prompt and seed.

Videos are [3, F, H, W] in -1..1, raw frames or decoded from a file. As in the field's tables, a metric is taken per
frame, then averaged over frames, then over videos.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np

METRICS = ("psnr", "ssim", "lpips")
Metric = Callable[[Any, Any], float]


def check_metrics(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no metric, with the closest one that is."""
    for name in names:
        if name not in METRICS:
            close = difflib.get_close_matches(str(name), METRICS, n=1, cutoff=0.5)
            hint = f", did you mean '{close[0]}'?" if close else ""
            raise ValueError(f"unknown metric '{name}'{hint}; expected some of {', '.join(METRICS)}")


def load_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """Return name → function of (frames, reference) for the metrics that can be computed here.

    LPIPS is left out where `lpips_missing` says why.

    Raises:
        ValueError: an unknown name.
        ImportError: torchmetrics is not installed.
    """
    names = tuple(names)
    check_metrics(names)
    known: dict[str, Metric] = {"psnr": psnr, "ssim": ssim, "lpips": lpips}
    return {name: known[name] for name in names if name != "lpips" or lpips_missing() is None}


def psnr(frames: Any, reference: Any, cap: float = 100.0) -> float:
    """Return the PSNR in dB of values in a range of 2, capped where frames are equal."""
    one, other = _same_shape(frames, reference)
    errors = ((one - other) ** 2).mean(axis=(0, 2, 3))
    return fmean(cap if error == 0 else min(10 * math.log10(4 / error), cap) for error in errors)


def ssim(frames: Any, reference: Any) -> float:
    """Return the structural similarity (Wang et al. 2004): 11×11 Gaussian window of deviation 1.5, K 0.01 and 0.03.

    Borders are reflected, as torchmetrics does, so every pixel counts.
    """
    import torch

    measure = _torchmetrics("torchmetrics.functional.image").structural_similarity_index_measure
    one, other = (torch.from_numpy(video).float().transpose(0, 1) for video in _same_shape(frames, reference))
    return measure(one, other, data_range=2.0, sigma=1.5, kernel_size=11).item()


def lpips(frames: Any, reference: Any) -> float:
    """Return the learned perceptual distance on AlexNet (Zhang et al. 2018).

    Raises:
        RuntimeError: it cannot be computed here, see `lpips_missing`.
    """
    import torch

    model = _lpips_model()
    if isinstance(model, str):
        raise RuntimeError(model)
    one, other = (torch.from_numpy(video).float().transpose(0, 1) for video in _same_shape(frames, reference))
    with torch.no_grad():
        return fmean(model(a[None].clamp(-1, 1), b[None].clamp(-1, 1)).item() for a, b in zip(one, other, strict=True))


def lpips_missing() -> str | None:
    """Return why LPIPS cannot be computed here, or None where it can."""
    model = _lpips_model()
    return model if isinstance(model, str) else None


@cache
def _lpips_model() -> Any:
    """Return the model, or why there is none: AlexNet comes through torchvision and the network."""
    module = _torchmetrics("torchmetrics.image.lpip")
    try:
        model = module.LearnedPerceptualImagePatchSimilarity(net_type="alex")
    except ModuleNotFoundError:
        return "LPIPS needs torchvision for AlexNet, which is not installed"
    except OSError as error:
        return f"LPIPS needs AlexNet's weights, which could not be fetched ({error})"
    return model.eval().requires_grad_(False)


def _torchmetrics(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ImportError("SSIM and LPIPS need torchmetrics; install the extra: pip install -e '.[eval]'") from None


def _same_shape(frames: Any, reference: Any) -> tuple[np.ndarray, np.ndarray]:
    one, other = (np.asarray(video, dtype=np.float64) for video in (frames, reference))
    if one.shape != other.shape:
        raise ValueError(f"videos to compare must have one shape, got {one.shape} and {other.shape}")
    return one, other
