"""The residual of the whole block stack, forecast in the timestep by as much as the last forecast proved right.

R rows of a batch, N tokens, C channels; r is the residual, t the timestep.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from opensora_adacache.caching.residuals import ResidualStore


class ForecastResidual:
    """Residual x_out − x_in and its divided differences over the timesteps of the last computed steps.

    The forecast is Newton's polynomial through the last computed residuals, r₁ + Σ γᵢ fᵢ(t): f₁ goes on along the line
    through the last two, f₂ adds the bend of the last three. At the next computed step the true residual r is there,
    so the gain gᵢ that would have been best for each row is too: ⟨r − r₁, f₁⟩ / ⟨f₁, f₁⟩ for the line, then the same of
    what is left for the bend, cut to 0..1. A forecast is the safer the nearer it is, so in a gap ρ times as long as the
    one that gᵢ was measured over it counts by γᵢ = 1 − (1 − gᵢ)ρ, cut to 0..1. Where all are 0 the forecast is plain
    reuse: so it is where the last one pointed the wrong way, and where too few steps were computed. Until it was
    measured, the gain of the line is 1 and that of the bend 0.

    Ours; TaylorSeer (arXiv 2503.06923) has γ = 1 and counts steps instead of timesteps (`StackResidual`).

    Args:
        store: where residual and differences are kept, one tensor [R, 1 + order, N, C].
        order: 1 or 2.
        num_rows: R.
        device: of the rows.

    Attributes:
        gains: of line and bend as they were last measured, [R, order].
    """

    NAME = "stack"

    def __init__(self, store: ResidualStore, order: int, num_rows: int, device: torch.device) -> None:
        self.store = store
        self.order = order
        # per row and on the device, so that rows may compute at steps of their own without a synchronisation
        self.gains = torch.zeros(num_rows, order, device=device)
        self.gains[:, 0] = 1.0
        # of the last computed steps, the latest first; not a number where there was none
        self._times = torch.full((num_rows, order + 1), math.nan, device=device)

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor | None:
        """Take the stack's output and input [r, N, C] of the rows that computed, and the timesteps [R].

        Returns:
            Float32 [r, 2]: ‖r − forecast‖₂² and ‖r‖₂², on their device; None at the first computed step.
        """
        residual = (after - before).detach()
        index, times = self._select(rows, timestep)
        sums = None
        if self.NAME in self.store:
            history = self.store.get(self.NAME, rows)
            change, factors = residual - history[:, 0], self._factors(index, times)
            sums = self._measure(history, change, residual, index, factors)
            if self.order > 1:
                torch.addcmul(change, history[:, 1], _over_tokens(-factors[:, 0], change), out=history[:, 2])
            history[:, 1] = change
        else:
            history = residual.new_zeros(len(residual), 1 + self.order, *residual.shape[1:])
        history[:, 0] = residual
        self.store.put(self.NAME, history, rows)
        self._times[index] = torch.cat([times[:, None], self._times[index, :-1]], dim=1)
        return sums

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        """Return x plus the residual expected at the timesteps [R], for those rows [r, N, C]."""
        history = self.store.get(self.NAME, rows)
        index, times = self._select(rows, timestep)
        factors = self._factors(index, times)
        weights = factors * self._trust(index, factors)
        out = x + history[:, 0]
        for i in range(self.order):
            out.addcmul_(history[:, i + 1], _over_tokens(weights[:, i], out))
        return out

    def _select(self, rows: Tensor | None, timestep: Tensor) -> tuple[slice | Tensor, Tensor]:
        """Return the index of those rows and their timesteps."""
        index = slice(None) if rows is None else rows
        return index, timestep.float().expand(len(self.gains))[index]

    def _factors(self, index: slice | Tensor, times: Tensor) -> Tensor:
        """Return what each difference is multiplied with at those times, [r, order]; 0 where it is not there yet.

        The first is ρ, the distance to the last computed step over the gap before it.
        """
        known = self._times[index]
        factors = _ratio(times[:, None] - known[:, :-1], known[:, :1] - known[:, 1:])
        return factors.cumprod(dim=1)

    def _trust(self, index: slice | Tensor, factors: Tensor) -> Tensor:
        """Return γᵢ, [r, order]."""
        return (1 - (1 - self.gains[index]) * factors[:, :1]).clamp(0, 1)

    def _measure(
        self, history: Tensor, change: Tensor, residual: Tensor, index: slice | Tensor, factors: Tensor
    ) -> Tensor:
        """Hold the true change of the residual against its forecast: set the gains, return the sums of `update`."""
        one = torch.ones_like(factors[:, :1])
        # products of the change and of each fᵢ with each other, [r, 1 + order, 1 + order]
        scale = torch.cat([one, factors], dim=1)
        products = _products(history, change) * scale[:, :, None] * scale[:, None]
        missed = torch.cat([one, -self._trust(index, factors)], dim=1)  # the change less γᵢ fᵢ
        missed = (products * missed[:, :, None] * missed[:, None]).sum((1, 2)).clamp_min(0)
        left = products[:, 0]
        for i in range(self.order):
            along = products[:, i + 1]
            gain = torch.where(along[:, i + 1] > 0, left[:, i + 1] / along[:, i + 1], self.gains[index, i]).clamp(0, 1)
            self.gains[index, i] = gain
            left = left - gain[:, None] * along
        norms = torch.linalg.vector_norm(residual, dim=(1, 2), dtype=torch.float32)
        return torch.stack([missed, norms.square()], dim=1)


def _products(history: Tensor, change: Tensor) -> Tensor:
    """Return the inner products in float32 of change [r, N, C] and differences in history [r, 1 + order, N, C].

    Row by row: copies in float32 of half-precision tensors are as small as can be.
    """
    found = []
    for row, one in zip(history, change, strict=True):
        vectors = torch.cat([one[None], row[1:]]).flatten(1).float()
        found.append(vectors @ vectors.T)
    return torch.stack(found)


def _ratio(change: Tensor, gap: Tensor) -> Tensor:
    """Return change / gap, 0 where one is not known or half precision cannot tell the timesteps apart."""
    return (change / gap).nan_to_num(0.0, 0.0, 0.0)


def _over_tokens(factor: Tensor, like: Tensor) -> Tensor:
    return factor.to(like.dtype)[:, None, None]
