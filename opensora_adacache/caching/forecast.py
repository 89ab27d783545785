"""The residual of the whole block stack, forecast in the timestep by as much as the last forecast proved right.

R rows of a batch, N tokens, C channels; r is the residual, t the timestep.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opensora_adacache.caching.residuals import ResidualStore


class ForecastResidual:
    """Residual x_out − x_in and its divided differences over the timesteps of the last computed steps.

    The forecast is r₁ + g·f(t), f Newton's polynomial of the given order through the last computed residuals, without
    its constant r₁. At the next computed step the true residual is there, so the gain g that would have been best is
    ⟨r − r₁, f⟩ / ⟨f, f⟩, for each row; cut to 0..1 it counts from then on. At 0 the forecast is plain reuse: so it is
    where the last one pointed the wrong way, and where too few steps were computed. Until a gain was measured it is 1.

    Ours; TaylorSeer (arXiv 2503.06923) has g = 1 and counts steps instead of timesteps (`StackResidual`).

    Args:
        store: where the tensors are kept, 1 + order of them.
        order: 1 or 2.
        num_rows: R.
        device: of the rows.

    Attributes:
        gain: the gain in force, [R].
    """

    def __init__(self, store: ResidualStore, order: int, num_rows: int, device: torch.device) -> None:
        self.store = store
        self.names = ["stack"] + [f"stack difference {i}" for i in range(1, order + 1)]
        # per row and on the device, so that rows may compute at steps of their own without a synchronisation
        self.gain = torch.ones(num_rows, device=device)
        self._times = torch.zeros(order + 1, num_rows, device=device)
        self._count = torch.zeros(num_rows, device=device)

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor | None:
        """Take the stack's output and input [r, N, C] of the rows that computed, and the timesteps [R].

        Returns:
            Float32 [r, 2]: ‖r − forecast‖₂² and ‖r‖₂², on their device; None at the first computed step.
        """
        residual = after - before
        index, times = self._select(rows, timestep)
        sums = None
        if self.names[0] in self.store:
            sums = self._compare(residual, rows, index, times)
        self.store.put(self.names[0], residual, rows)
        self._times[:, index] = torch.cat([times[None], self._times[:-1, index]])
        self._count[index] += 1
        return sums

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        """Return x plus the residual expected at the timesteps [R], for those rows [r, N, C]."""
        out = x + self.store.get(self.names[0], rows)
        index, times = self._select(rows, timestep)
        factors = self._factors(index, times) * self.gain[index]
        for name, factor in zip(self.names[1:], factors, strict=True):
            if name in self.store:
                out.addcmul_(self.store.get(name, rows), _over_tokens(factor, out))
        return out

    def _select(self, rows: Tensor | None, timestep: Tensor) -> tuple[slice | Tensor, Tensor]:
        """Return the index of those rows and their timesteps."""
        index = slice(None) if rows is None else rows
        return index, timestep.float().expand(len(self.gain))[index]

    def _factors(self, index: slice | Tensor, times: Tensor) -> Tensor:
        """Return what each stored difference is multiplied with at those times, [order, r]; 0 where it is not there."""
        known, count = self._times[:, index], self._count[index]
        factors = [_ratio(times - known[0], known[0] - known[1], count > 1)]
        if len(known) > 2:
            further = _ratio(times - known[1], known[0] - known[2], count > 2)
            factors.append(factors[0] * further)
        return torch.stack(factors)

    def _compare(self, residual: Tensor, rows: Tensor | None, index: slice | Tensor, times: Tensor) -> Tensor:
        """Hold the true residual against its forecast; update gain and differences."""
        change = residual - self.store.get(self.names[0], rows)
        factors = self._factors(index, times)
        change_square, residual_square = _dot(change, change), _dot(residual, residual)
        product = square = torch.zeros_like(change_square)
        if self.names[1] in self.store:
            forecast = self._forecast(factors, rows, residual)
            product, square = _dot(change, forecast), _dot(forecast, forecast)
        gain = self.gain[index]
        error = change_square - 2 * gain * product + gain.square() * square
        measured = (product / square.clamp_min(torch.finfo(torch.float32).tiny)).clamp(0, 1)
        self.gain[index] = torch.where(square > 0, measured, gain)
        if len(self.names) > 2:
            old = self.store.get(self.names[1], rows) if self.names[1] in self.store else torch.zeros_like(change)
            last, before = self._times[:2, index]
            bends = self._count[index] > 1
            scale = _ratio(times - last, last - before, bends)
            second = torch.where(bends[:, None, None], change.addcmul(old, _over_tokens(-scale, change)), 0.0)
            self.store.put(self.names[2], second, rows)
        self.store.put(self.names[1], change, rows)
        return torch.stack([error.clamp_min(0), residual_square], dim=1)

    def _forecast(self, factors: Tensor, rows: Tensor | None, like: Tensor) -> Tensor:
        """Return f, the forecast change of the residual before the gain [r, N, C]."""
        stored = (self.store.get(name, rows) for name in self.names[1:] if name in self.store)
        parts = [tensor * _over_tokens(factor, like) for tensor, factor in zip(stored, factors, strict=False)]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each row in float32: [r, N, C] twice → [r]."""
    return torch.linalg.vecdot(a.flatten(1).float(), b.flatten(1).float())


def _ratio(change: Tensor, gap: Tensor, known: Tensor) -> Tensor:
    """Return change / gap, 0 where it is not known or half precision cannot tell the timesteps apart."""
    known = known & (gap != 0)
    return torch.where(known, change / torch.where(known, gap, 1.0), 0.0)


def _over_tokens(factor: Tensor, like: Tensor) -> Tensor:
    return factor.to(like.dtype)[:, None, None]
