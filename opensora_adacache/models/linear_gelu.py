"""A linear layer and the tanh-GELU after it, computed as one matrix product with an epilogue.

The hidden values of an MLP are the largest tensor of a block. Writing, reading and writing them again costs about a
tenth of the matrix product. cuBLAS can apply the activation before it writes. torch provides this through an operator
that its compiler decomposes again, so it is wrapped into a custom operator here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def is_supported(x: Tensor, weight: Tensor) -> bool:
    """Return whether `linear_gelu` is faster for x: on CUDA, all in one half precision, without gradients.

    A quantised weight has a product of its own.
    """
    is_half = x.dtype == weight.dtype and x.dtype in (torch.bfloat16, torch.float16)
    return x.is_cuda and is_half and not torch.is_grad_enabled() and not is_traceable_wrapper_subclass(weight)


@torch.library.custom_op(
    "opensora_adacache::linear_gelu", mutates_args=(), schema="(Tensor x, Tensor weight, Tensor bias) -> Tensor"
)
def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return gelu(x · weightᵀ + bias) with the tanh approximation: [..., in] to [..., out]; not differentiable."""
    if not x.is_cuda:  # on the CPU, the operator below uses the other form of GELU
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")
    out = torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True)
    return out.unflatten(0, x.shape[:-1])


@linear_gelu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])
