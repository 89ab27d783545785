"""The stored residuals of one run."""

from __future__ import annotations

import torch
from torch import Tensor


class ResidualStore:
    """Residuals by name, each [R, N, C] for the R rows of the batch. Counts the bytes it holds.

    `rows` is an int64 tensor [r] of row indices, or None for all rows.
    """

    def __init__(self) -> None:
        self._residuals: dict[str, Tensor] = {}
        self._num_bytes = 0
        self.peak_bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._residuals

    def get(self, name: str, rows: Tensor | None = None) -> Tensor:
        """Return the residual of these rows."""
        residual = self._residuals[name]
        return residual if rows is None else residual[rows]

    def put(self, name: str, residual: Tensor, rows: Tensor | None = None) -> None:
        """Store a residual. For all rows the tensor is stored without a copy, so do not change it afterwards."""
        if rows is None:
            replaced = self._residuals.get(name)
            self._residuals[name] = residual.detach()
            self._num_bytes += num_bytes_of(residual) - (0 if replaced is None else num_bytes_of(replaced))
            self.peak_bytes = max(self.peak_bytes, self._num_bytes)
        else:
            self._residuals[name][rows] = residual.detach()

    def put_difference(self, name: str, after: Tensor, before: Tensor, rows: Tensor | None = None) -> None:
        """Store after − before, writing into the existing tensor if possible, so that no second one is held."""
        stored = self._residuals.get(name)
        if stored is None or rows is not None:
            self.put(name, after - before, rows)
        else:
            torch.sub(after.detach(), before.detach(), out=stored)

    def keep_rows(self, rows: Tensor) -> None:
        """Drop all other rows; the remaining ones are renumbered 0..r−1."""
        for name in list(self._residuals):
            self.put(name, self._residuals[name][rows])

    def num_bytes(self) -> int:
        """Return the number of bytes held now."""
        return self._num_bytes

    def clear(self) -> None:
        """Drop everything except the peak."""
        self._residuals.clear()
        self._num_bytes = 0


def num_bytes_of(tensor: Tensor) -> int:
    """Return the bytes of the storage that a tensor keeps alive; a view shares it with its base."""
    return tensor.untyped_storage().nbytes()


def row_index(rows: Tensor | None) -> slice | Tensor:
    """Return an index that selects these rows of a tensor [R, …]; None selects all of them."""
    return slice(None) if rows is None else rows


def over_rows(factor: Tensor, like: Tensor) -> Tensor:
    """Reshape factors [r] or [1] so that they multiply a tensor [r, …]."""
    return factor.view(-1, *[1] * (like.ndim - 1))
