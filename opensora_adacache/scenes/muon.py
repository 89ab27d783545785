"""The Muon optimizer for the matrices of the transformer's blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic iteration by Keller Jordan (https://kellerjordan.github.io/posts/muon/), which maps
# singular values from (0, 1] into about 0.7 to 1.2 within five steps.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return matrices [K, m, n] with the same singular vectors and singular values near 1.

    >>> turned = orthogonalise(torch.diag(torch.tensor([4.0, -0.5]))[None])
    >>> turned[0].diag().sign().tolist(), bool((turned[0].diag().abs() - 1).abs().max() < 0.35)
    ([1.0, -1.0], True)
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16().contiguous()
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Stochastic gradient descent with Nesterov momentum, whose updates are orthogonalized; matrices only.

    Every direction of a weight then learns at the same rate, however rarely the data asks for it. Updates are scaled to
    a root mean square of 0.2, so that rates of AdamW fit (Liu et al. 2025, arXiv 2502.16982). Matrices of the same
    shape are handled together, because a GPU spends its time on starting kernels for matrices as small as these.

    Args:
        parameters: matrices, or groups of them in the form of torch's optimizers.
        lr: learning rate.
        momentum: decay of the mean gradient.
    """

    def __init__(self, parameters: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step; a closure is not supported."""
        assert closure is None
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for members in shapes.values():
                self._update(members, group["lr"], group["momentum"])

    def _update(self, members: list[Tensor], rate: float, momentum: float) -> None:
        gradients = [parameter.grad for parameter in members if parameter.grad is not None]
        means = [self._mean(parameter) for parameter in members]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        updates = orthogonalise(torch.stack(torch._foreach_lerp(gradients, means, momentum)))
        scale = 0.2 * max(updates.shape[1:]) ** 0.5
        torch._foreach_add_(members, list(updates.unbind()), alpha=-rate * scale)

    def _mean(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        return state["mean"]
