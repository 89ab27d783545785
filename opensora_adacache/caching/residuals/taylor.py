"""The residual of the whole block stack: stored at computed steps, reused or extrapolated at the others.

R batch rows, N tokens, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.base import StackResidual
from opensora_adacache.caching.residuals.store import ResidualStore, row_index


class TaylorResidual(StackResidual):
    """Residual x_out − x_in and its finite differences per step, up to some order.

    Order 0 is plain reuse. Order m stores m more tensors and evaluates the Taylor series r + r'·k + r''·k²/2 + …, where
    k is the number of steps since the last computed step (TaylorSeer, arXiv 2503.06923). A difference is used only
    after enough steps have computed.

    Args:
        store: where the tensors are kept.
        order: 0, 1 or 2.
        num_rows: R.
        device: device of the rows.
    """

    def __init__(self, store: ResidualStore, order: int, num_rows: int, device: torch.device) -> None:
        super().__init__(store, num_rows, device)
        self.names = [self.NAME] + [f"{self.NAME} difference {i}" for i in range(1, order + 1)]
        # per row and on the device, so that rows can compute at different steps without a synchronization
        self._computed_at = torch.zeros(num_rows, device=device)
        self._count = torch.zeros(num_rows, device=device)

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        if len(self.names) == 1:
            self.store.put_difference(self.names[0], after, before, rows)
            return
        position = self.position(step, timestep)
        self._update_tensors(after - before, rows, self._since_computed(rows, position))
        index = row_index(rows)
        self._computed_at[index] = position
        self._count[index] += 1

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        out = x + self.store.get(self.names[0], rows)
        if len(self.names) > 1:
            distance = self._since_computed(rows, self.position(step, timestep))
            for term, name in enumerate(self.names[1:], start=1):
                out = out.addcmul_(self.store.get(name, rows), self.weight(term, distance).to(x.dtype))
        return out

    def keep_rows(self, rows: Tensor) -> None:
        super().keep_rows(rows)
        self._computed_at, self._count = self._computed_at[rows], self._count[rows]

    def position(self, step: int, timestep: Tensor) -> Tensor | float:
        """Return where a step lies on the axis over which the residual is extrapolated: a number or a tensor [1]."""
        return float(step)

    def weight(self, term: int, distance: Tensor) -> Tensor:
        """Return the weight of a term, counted from 1, at distances [r, 1, 1] from the last computed step."""
        return distance**term / math.factorial(term)

    def _since_computed(self, rows: Tensor | None, position: Tensor | float) -> Tensor:
        return (position - self._computed_at[row_index(rows)])[:, None, None]

    def _update_tensors(self, residual: Tensor, rows: Tensor | None, interval: Tensor) -> None:
        interval = interval.to(residual.dtype)
        count = self._count[row_index(rows)][:, None, None]
        for order, name in enumerate(self.names):
            old = self.store.get(name, rows) if name in self.store else None
            self.store.put(name, residual, rows)
            if order + 1 < len(self.names):
                # half precision cannot distinguish some timesteps; such steps have no difference
                difference = torch.zeros_like(residual) if old is None else (residual - old) / interval
                residual = torch.where((count > order) & (interval != 0), difference, 0.0)


class LineResidual(TaylorResidual):
    """The line through the last two computed residuals over the timestep: r + r'·(t − t₁).

    A Taylor series of order 1 over timesteps instead of steps, which differs where steps have different lengths.

    Args:
        store: where the tensors are kept.
        num_rows: R.
        device: device of the rows.
    """

    def __init__(self, store: ResidualStore, num_rows: int, device: torch.device) -> None:
        super().__init__(store, 1, num_rows, device)

    def position(self, step: int, timestep: Tensor) -> Tensor | float:
        return timestep.detach().flatten()[:1].float()
