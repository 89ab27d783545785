"""PSNR, SSIM, LPIPS and their names."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

from opensora_adacache.media.reading import read_video
from opensora_adacache.media.writing import write_video
from opensora_adacache.metrics import lpips
from opensora_adacache.metrics.lpips import CHECKPOINT_URL, Lpips, MetricUnavailable
from opensora_adacache.metrics.quality import METRICS, check_metrics, load_metrics, psnr, ssim


def noisy_pair(num_frames=2, size=32, noise=0.2):
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(3, num_frames, size, size, generator=generator) * 2 - 1
    return one, (one + noise * torch.randn(one.shape, generator=generator)).clamp(-1, 1)


def uniform(level, size=16):
    return torch.full((3, 1, size, size), float(level))


def test_psnr_by_hand():
    one, other = torch.zeros(3, 2, 4, 4), torch.zeros(3, 2, 4, 4)
    assert psnr(one, other) == 100.0
    other[:, 1] = 0.2  # 10 log10(4 / 0.04) = 20 dB in one of two frames
    assert psnr(one, other) == pytest.approx((100 + 20) / 2)
    assert psnr(one, other, cap=30) == pytest.approx((30 + 20) / 2)
    assert psnr(uniform(1.7), uniform(1)) == 100  # both are white in a file


def test_ssim_of_uniform_frames_by_hand():
    # Without variance the luminance term remains, on 0..1: (2ab + C) / (a² + b² + C) with C = 0.01².
    a, b, c = 0.25, 0.75, 1e-4
    assert ssim(uniform(2 * a - 1), uniform(2 * b - 1)) == pytest.approx((2 * a * b + c) / (a**2 + b**2 + c), abs=5e-4)
    assert ssim(uniform(0.3), uniform(0.3)) == 1


def test_ssim_is_that_of_the_paper():
    one, other = noisy_pair()
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def local(values):
        patches = np.lib.stride_tricks.sliding_window_view(values, (11, 11), axis=(-2, -1))
        return (patches * window).sum((-2, -1))

    x, y = ((video.numpy().astype(np.float64) + 1) / 2 for video in (one, other))
    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    assert ssim(one, other) == pytest.approx(value.mean(), abs=1e-5)


@pytest.fixture
def alexnet():
    """AlexNet's convolutions with random weights, built from modules."""
    torch.manual_seed(0)
    features = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )
    return features.requires_grad_(False)


@pytest.fixture
def hub(alexnet, tmp_path, monkeypatch):
    """A folder of torch.hub with those weights in the published layout."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    path = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir()
    torch.save({f"features.{name}": value for name, value in alexnet.state_dict().items()}, path)
    return path


def test_lpips_is_that_of_torchmetrics(alexnet, hub, monkeypatch):
    """The network of torchmetrics around the same convolutions, which it would have torchvision download."""
    from torchmetrics.functional.image import lpips as theirs

    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_, **__: alexnet)
    network = theirs._NoTrainLpips(net="alex")
    one, other = noisy_pair(size=48)
    expected = network(one.transpose(0, 1), other.transpose(0, 1)).mean().item()
    value = Lpips.load()(one, other)
    assert value == pytest.approx(expected, rel=1e-5) and value > 1e-4
    assert Lpips.load()(one, one) == 0


def test_lpips_without_weights_says_why(hub):
    hub.write_bytes(hub.read_bytes()[:1000])
    for text in ("holds none; delete it", None):
        if text is None:
            hub.unlink()
            text = f"there is no '{hub}'; run python -c"
        metrics, reasons = load_metrics(["psnr", "lpips"])
        assert list(metrics) == ["psnr"] and list(reasons) == ["lpips"]
        assert text in reasons["lpips"] and hub.name in reasons["lpips"] and "\n" not in reasons["lpips"]
    torch.save({"features.0.weight": torch.zeros(1)}, hub)
    with pytest.raises(MetricUnavailable, match="holds none"):
        Lpips.load()
    assert CHECKPOINT_URL.endswith(hub.name)


def test_weights_of_lpips_from_a_path(hub, tmp_path, monkeypatch):
    other = hub.rename(tmp_path / "alexnet.pth")
    assert load_metrics(["lpips"])[1]
    monkeypatch.setenv("OPENSORA_ADACACHE_ALEXNET", str(other))
    assert not load_metrics(["lpips"])[1]


def test_frames_that_are_too_small_are_refused(hub):
    with pytest.raises(ValueError, match="SSIM needs frames of at least 11 pixels a side, got 10x10"):
        ssim(uniform(0, 10), uniform(0, 10))
    with pytest.raises(ValueError, match="LPIPS needs frames of at least 31 pixels a side, got 30x30"):
        Lpips.load()(uniform(0, 30), uniform(0, 30))
    assert Lpips.load()(uniform(0, 31), uniform(1, 31)) > 0


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_takes_raw_frames_and_decoded_ones(name, hub, tmp_path):
    metric = load_metrics([name])[0][name]
    one, other = noisy_pair(3)
    raw = metric(one, other)
    files = [read_video(write_video(tmp_path / f"{i}.mp4", video, 8)) for i, video in enumerate((one, other))]
    decoded = metric(*files)
    assert math.isfinite(raw) and math.isfinite(decoded) and raw != decoded
    with pytest.raises(ValueError, match=r"got \(3, 3, 32, 32\) and \(3, 2, 32, 32\)"):
        metric(one, other[:, :2]) if name != "flicker" else psnr(one, other[:, :2])


def test_unknown_metrics_are_refused():
    check_metrics(METRICS)
    with pytest.raises(
        ValueError, match="unknown metric 'lpisp', did you mean 'lpips'\\? expected one of psnr, ssim, "
    ):
        check_metrics(["psnr", "lpisp"])
    with pytest.raises(ValueError, match="unknown metric 'fvd'; expected one of"):
        load_metrics(["fvd"])


@pytest.mark.parametrize("name", ["ssim", "lpips"])
def test_without_torchmetrics_the_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setattr(lpips, "find_spec", lambda _: None)
    for call in (lambda: check_metrics([name]), lambda: ssim(uniform(0), uniform(1)), Lpips.load):
        with pytest.raises(ValueError, match=r"needs torchmetrics.*pip install 'opensora-adacache\[eval\]'"):
            call()
    check_metrics(["psnr", "flicker", "motion_error"])
