"""Losses of the VAE: errors that count more at the outlines of objects, also of the changes from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Emphasis:
    """How much more the pixels of objects count than the background.

    Attributes:
        objects: additional weight of objects and of a ring of two pixels around them.
        edges: further weight of the edges there, multiplied by their contrast in 0..1.
    """

    objects: float = 2.0
    edges: float = 8.0


def pixel_weights(pixels: Tensor, covered: Tensor, emphasis: Emphasis) -> Tensor:
    """Return the weights of pixels [N, 1, H, W] with mean 1.

    Args:
        pixels: [N, 3, H, W] in -1..1.
        covered: [N, 1, H, W] coverage by objects.
        emphasis: what counts more.
    """
    near = functional.max_pool2d(covered, 5, 1, 2)
    brightest, darkest = functional.max_pool2d(pixels, 3, 1, 1), -functional.max_pool2d(-pixels, 3, 1, 1)
    contrast = ((brightest - darkest) / 2).amax(1, keepdim=True)
    weights = 1 + near * (emphasis.objects + emphasis.edges * contrast)
    return weights / weights.mean()


def pooled(weights: Tensor, factor: int) -> Tensor:
    """Return the weights of latents [B, 1, F, h, w] for those of the pixels of clips [B, F, 1, H, W].

    Args:
        weights: weights of pixels.
        factor: pixels per latent along each side.
    """
    return functional.avg_pool2d(weights.flatten(0, 1), factor).unflatten(0, weights.shape[:2]).transpose(1, 2)


def error_of(difference: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of absolute value plus square.

    >>> error_of(torch.tensor([1.0, -2.0]), torch.tensor([1.0, 0.5])).item()
    2.5
    """
    return (weights * (difference.abs() + difference.square())).mean()


def error_of_changes(difference: Tensor, weights: Tensor) -> Tensor:
    """Return the error of the changes between neighbouring frames; what is wrong in the same way in all frames is not.

    Args:
        difference: [B, F, C, H, W], reconstruction minus truth.
        weights: [B, F, 1, H, W].
    """
    return error_of(difference[:, 1:] - difference[:, :-1], torch.maximum(weights[:, 1:], weights[:, :-1]))


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of a posterior from the standard normal distribution, mean per number.

    >>> divergence(torch.tensor([1.0, 0.0]), torch.zeros(2)).item()
    0.25
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
