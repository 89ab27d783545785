"""The residual of the whole block stack, forecast in the timestep by as much as the last forecast proved right.

R rows of a batch, N tokens, C channels; r is the residual, t the timestep.
"""

from __future__ import annotations

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
        store: where the tensors are kept, 1 + order of them.
        order: 1 or 2.
        num_rows: R.
        device: of the rows.

    Attributes:
        gains: of line and bend as they were last measured, [order, R].
    """

    def __init__(self, store: ResidualStore, order: int, num_rows: int, device: torch.device) -> None:
        self.store = store
        self.names = ["stack"] + [f"stack difference {i}" for i in range(1, order + 1)]
        # per row and on the device, so that rows may compute at steps of their own without a synchronisation
        self.gains = torch.zeros(order, num_rows, device=device)
        self.gains[0] = 1.0
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
            change = residual - self.store.get(self.names[0], rows)
            missed = self._measure(change, rows, index, times)
            self._keep_differences(change, rows, index, times)
            sums = torch.stack([missed, _dot(residual, residual)], dim=1)
        self.store.put(self.names[0], residual, rows)
        self._times[:, index] = torch.cat([times[None], self._times[:-1, index]])
        self._count[index] += 1
        return sums

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        """Return x plus the residual expected at the timesteps [R], for those rows [r, N, C]."""
        out = x + self.store.get(self.names[0], rows)
        index, times = self._select(rows, timestep)
        factors = self._factors(index, times)
        for name, weight in zip(self._known(), self._weights(index, factors), strict=False):
            out.addcmul_(self.store.get(name, rows), _over_tokens(weight, out))
        return out

    def _select(self, rows: Tensor | None, timestep: Tensor) -> tuple[slice | Tensor, Tensor]:
        """Return the index of those rows and their timesteps."""
        index = slice(None) if rows is None else rows
        return index, timestep.float().expand(self.gains.shape[1])[index]

    def _known(self) -> list[str]:
        """Return the names of the differences that are stored by now."""
        return [name for name in self.names[1:] if name in self.store]

    def _factors(self, index: slice | Tensor, times: Tensor) -> Tensor:
        """Return what each stored difference is multiplied with at those times, [order, r]; 0 where it is not there.

        The first is ρ, the distance to the last computed step over the gap before it.
        """
        known, count = self._times[:, index], self._count[index]
        factors = [_ratio(times - known[0], known[0] - known[1], count > 1)]
        if len(known) > 2:
            factors.append(factors[0] * _ratio(times - known[1], known[0] - known[2], count > 2))
        return torch.stack(factors)

    def _weights(self, index: slice | Tensor, factors: Tensor) -> Tensor:
        """Return γᵢ times the factors, [order, r]."""
        return factors * (1 - (1 - self.gains[:, index]) * factors[0]).clamp(0, 1)

    def _measure(self, change: Tensor, rows: Tensor | None, index: slice | Tensor, times: Tensor) -> Tensor:
        """Hold the true change of the residual against its forecast: set the gains, return ‖r − forecast‖₂² [r]."""
        factors = self._factors(index, times)
        stored = [self.store.get(name, rows) for name in self._known()]
        products = [[_dot(one, other) for other in stored[: i + 1]] for i, one in enumerate(stored)]
        left = [_dot(change, one) for one in stored]
        weights = self._weights(index, factors)[: len(stored)]
        missed = _dot(change, change)
        for i, weight in enumerate(weights):
            crossed = sum((weights[j] * products[i][j] for j in range(i)), start=0.5 * weight * products[i][i])
            missed = missed + 2 * weight * (crossed - left[i])
        for i, factor in enumerate(factors[: len(stored)]):
            span = factor * products[i][i]
            gain = torch.where(span != 0, left[i] / torch.where(span != 0, span, 1.0), self.gains[i, index])
            self.gains[i, index] = gain = gain.clamp(0, 1)
            for j in range(i + 1, len(stored)):
                left[j] = left[j] - gain * factor * products[j][i]
        return missed.clamp_min(0)

    def _keep_differences(self, change: Tensor, rows: Tensor | None, index: slice | Tensor, times: Tensor) -> None:
        """Store the divided differences that end at the step that was computed."""
        if len(self.names) > 2:
            old = self.store.get(self.names[1], rows) if self.names[1] in self.store else torch.zeros_like(change)
            last, before = self._times[:2, index]
            bends = self._count[index] > 1
            scale = _ratio(times - last, last - before, bends)
            second = torch.where(bends[:, None, None], change.addcmul(old, _over_tokens(-scale, change)), 0.0)
            self.store.put(self.names[2], second, rows)
        self.store.put(self.names[1], change, rows)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each row in float32: [r, N, C] twice → [r]."""
    return torch.linalg.vecdot(a.flatten(1).float(), b.flatten(1).float())


def _ratio(change: Tensor, gap: Tensor, known: Tensor) -> Tensor:
    """Return change / gap, 0 where it is not known or half precision cannot tell the timesteps apart."""
    known = known & (gap != 0)
    return torch.where(known, change / torch.where(known, gap, 1.0), 0.0)


def _over_tokens(factor: Tensor, like: Tensor) -> Tensor:
    return factor.to(like.dtype)[:, None, None]
