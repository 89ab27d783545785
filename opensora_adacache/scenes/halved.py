"""Runs modules in bfloat16 while their weights stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Halved(nn.Module):
    """If `enabled`, calls methods of a module in bfloat16 while its weights stay in float32.

    Autocast would leave the group norms, which are most of the work here, in float32.
    """

    def __init__(self, module: nn.Module, enabled: bool) -> None:
        super().__init__()
        self.module = module
        self.enabled = enabled

    def forward(self, method: str, *args: Any) -> Any:
        return getattr(self.module, method)(*args)

    def call(self, method: str, *args: Any) -> Any:
        """Return ``module.method(*args)`` with floating-point tensors among `args` cast."""
        if not self.enabled:
            return self(method, *args)
        cast = {
            name: value.bfloat16() if value.is_floating_point() else value for name, value in self.named_parameters()
        }
        args = tuple(a.bfloat16() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
        return functional_call(self, cast, (method, *args))


@contextmanager
def tuned(device: torch.device) -> Iterator[None]:
    """On a GPU, let cuDNN try several kernels for each convolution size and keep the fastest.

    For convolutions over clips in bfloat16, its default choice can be many times slower; for frames it is good.
    """
    usual = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda"
    torch.backends.cudnn.benchmark_limit = 4
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = usual
