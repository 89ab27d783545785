"""Attention for many short rows, which torch's kernels are not made for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from opensora_adacache.models import layers


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention as the steps of its definition where that is faster than the kernels for long rows.

    There are many small attentions here: temporal blocks attend across the five latent frames of each position. On a
    GPU, products and sums over at most eight tokens are fused by a compiler into few memory passes. On a CPU, torch's
    kernel takes ten times as long as matrix products for the gradients in bfloat16, also for the 36 tokens of a frame.
    """
    usual = layers.attend

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, backend: str = "auto") -> Tensor:
        if q.device.type == "cpu":
            scores = ((q * q.shape[-1] ** -0.5) @ k.mT).float()
            if mask is not None:
                scores = scores.masked_fill(~mask, -float("inf"))
            return scores.softmax(-1).to(v.dtype) @ v
        if mask is not None or q.shape[-2] > 8:
            return usual(q, k, v, mask, backend)
        scores = (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1, dtype=torch.float32) * q.shape[-1] ** -0.5
        weights = scores.softmax(-1).to(v.dtype)
        return (weights.unsqueeze(-1) * v.unsqueeze(-3)).sum(-2, dtype=torch.float32).to(v.dtype)

    layers.attend = attend
    try:
        yield
    finally:
        layers.attend = usual
