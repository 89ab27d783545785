"""The stored residuals of one run."""

from __future__ import annotations

import torch
from torch import Tensor


class ResidualStore:
    """Residuals by name, each [R, N, C] for the R rows of the batch. Counts the bytes it holds.

    `rows` is an int64 tensor [r] of row indices, or None for all rows. Tensors that `get` returns may be changed, but
    only `put` makes sure that the store has the change.

    With ``on_cpu`` the residuals lie in the memory of the CPU, and `get` returns a copy on the device that they came
    from. Where that is a CUDA device the memory is pinned, so that the host waits for no copy: each is queued on the
    device's current stream, which also orders it after the computation of the residual and before the next use. A `put`
    of all rows moves one residual to the CPU and a `get` moves one back. A `put` of some rows moves the whole residual
    both ways, because selecting rows on the CPU would wait for their index.

    Args:
        on_cpu: whether to hold the residuals on the CPU.
    """

    def __init__(self, on_cpu: bool = False) -> None:
        self.on_cpu = on_cpu
        self._residuals: dict[str, Tensor] = {}
        self._devices: dict[str, torch.device] = {}
        self._num_bytes = 0
        self.peak_bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._residuals

    def get(self, name: str, rows: Tensor | None = None) -> Tensor:
        """Return the residual of these rows."""
        residual = self._residuals[name]
        if self.on_cpu:
            residual = residual.to(self._devices[name], non_blocking=True, copy=True)
        return residual if rows is None else residual[rows]

    def put(self, name: str, residual: Tensor, rows: Tensor | None = None) -> None:
        """Store a residual. For all rows the tensor may be stored without a copy, so do not change it afterwards."""
        residual = residual.detach()
        if self.on_cpu:
            self._put_on_cpu(name, residual, rows)
        elif rows is None:
            self._hold(name, residual)
        else:
            self._residuals[name][rows] = residual

    def put_difference(self, name: str, after: Tensor, before: Tensor, rows: Tensor | None = None) -> None:
        """Store after − before, writing into the existing tensor if possible, so that no second one is held."""
        stored = self._residuals.get(name)
        if stored is None or rows is not None or self.on_cpu:
            self.put(name, after - before, rows)
        else:
            torch.sub(after.detach(), before.detach(), out=stored)

    def keep_rows(self, rows: Tensor) -> None:
        """Drop all other rows; the remaining ones are renumbered 0..r−1."""
        for name in list(self._residuals):
            self.put(name, self.get(name, rows))

    def drop(self, name: str) -> None:
        """Drop a residual, if it is stored."""
        dropped = self._residuals.pop(name, None)
        if dropped is not None:
            self._num_bytes -= num_bytes_of(dropped)

    def num_bytes(self) -> int:
        """Return the number of bytes held now."""
        return self._num_bytes

    def clear(self) -> None:
        """Drop everything except the peak."""
        self._residuals.clear()
        self._num_bytes = 0

    def _put_on_cpu(self, name: str, residual: Tensor, rows: Tensor | None) -> None:
        if rows is not None:
            whole = self.get(name)
            whole[rows] = residual
            residual = whole
        held = self._residuals.get(name)
        if held is None or _layout(held) != _layout(residual):
            # with the strides of the residual, whose sums would round in another order with others
            held = torch.empty_like(residual, device="cpu", pin_memory=residual.is_cuda)
            self._hold(name, held)
        self._devices[name] = residual.device
        held.copy_(residual, non_blocking=True)

    def _hold(self, name: str, residual: Tensor) -> None:
        replaced = self._residuals.get(name)
        self._residuals[name] = residual
        self._num_bytes += num_bytes_of(residual) - (0 if replaced is None else num_bytes_of(replaced))
        self.peak_bytes = max(self.peak_bytes, self._num_bytes)


def num_bytes_of(tensor: Tensor) -> int:
    """Return the bytes of the storage that a tensor keeps alive; a view shares it with its base."""
    return tensor.untyped_storage().nbytes()


def row_index(rows: Tensor | None) -> slice | Tensor:
    """Return an index that selects these rows of a tensor [R, …]; None selects all of them."""
    return slice(None) if rows is None else rows


def over_rows(factor: Tensor, like: Tensor) -> Tensor:
    """Reshape factors [r] or [1] so that they multiply a tensor [r, …]."""
    return factor.view(-1, *[1] * (like.ndim - 1))


def _layout(tensor: Tensor) -> tuple:
    return tensor.shape, tensor.stride(), tensor.dtype
