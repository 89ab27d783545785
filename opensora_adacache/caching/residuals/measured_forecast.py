"""The residual of the whole block stack, forecast over the timestep and weighted by how well the last forecast did.

R batch rows, N tokens, C channels; r is the residual, t the timestep.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opensora_adacache.caching.distance import square_norm
from opensora_adacache.caching.residuals.base import MissedForecast, StackResidual
from opensora_adacache.caching.residuals.store import ResidualStore, over_rows, row_index


class MeasuredForecast(StackResidual):
    """Residual x_out − x_in and its differences over the timesteps of the last computed steps.

    The forecast is Newton's polynomial through the last computed residuals, r₁ + Σ γᵢ fᵢ(t). The first-order term f₁
    extends the line through the last two residuals; the second-order term f₂ adds the curvature of the last three. The
    next computed step provides the true residual r, and with it the gain gᵢ that would have been best for each row:
    ⟨r − r₁, f₁⟩ / ⟨f₁, f₁⟩ for the first-order term, then the same for what remains and the second-order term, clamped
    to 0..1. Forecasts over shorter intervals are more reliable, so over an interval ρ times as long as the one at which
    gᵢ was measured, the weight is γᵢ = 1 − (1 − gᵢ)ρ, clamped to 0..1. If all weights are 0, the forecast is plain
    reuse; this happens where the last forecast pointed in the wrong direction and where too few steps have computed.
    Before the first measurement, the first-order gain is 1 and the second-order gain is 0.

    The device only computes inner products. The host receives them together with the other measurements of a computed
    step, works out gains and errors, and sends one small tensor back for the skipped steps.

    This method is ours. TaylorSeer (arXiv 2503.06923) uses γ = 1 and steps instead of timesteps (`TaylorResidual`).

    Args:
        store: where the residual and its differences are kept, 1 + order tensors [R, N, C].
        order: 1 or 2.
        num_rows: R.
        device: device of the rows.
    """

    measures_error = True

    def __init__(self, store: ResidualStore, order: int, num_rows: int, device: torch.device) -> None:
        super().__init__(store, num_rows, device)
        self.order = order
        self.rows = [RowForecast(order) for _ in range(num_rows)]
        self._first = 0
        self._differences = [f"{self.NAME} difference {i}" for i in range(1, order + 1)]
        self._coefficients = self._send()
        self._sums: Tensor | None = None

    def place_among(self, num_rows: int, first: int) -> None:
        self.rows = [RowForecast(self.order) for _ in range(num_rows)]
        self._first = first

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        residual = (after - before).detach()
        if self.NAME not in self.store:
            self.store.put(self.NAME, residual)
            return
        last = self.store.get(self.NAME, rows)
        # written into the old residual, which is no longer needed, so that no extra tensor is held
        change = torch.sub(residual, last, out=last)
        known = [self.store.get(name, rows) for name in self._differences if name in self.store]
        along = [_product(change, other) for other in known]
        self._sums = torch.stack([square_norm(change), *along, square_norm(residual)], dim=1)
        fresh = [change]
        if self.order > 1 and known:
            rho = _ratios(self._coefficients[row_index(rows)], timestep)[:, 0]
            fresh.append(torch.addcmul(change, known[0], over_rows(-rho.to(change.dtype), change)))
        self.store.put(self.NAME, residual, rows)
        for name, difference in zip(self._differences, fresh, strict=False):
            if rows is not None and name not in self.store:
                self.store.put(name, torch.zeros_like(self.store.get(self.NAME)))
            self.store.put(name, difference, rows)

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        out = x + self.store.get(self.NAME, rows)
        coefficients = self._coefficients[row_index(rows)]
        ratios = _ratios(coefficients, timestep)
        weights = (ratios.cumprod(dim=1) * (1 - coefficients[:, 2] * ratios[:, :1]).clamp(0, 1)).to(out.dtype)
        for i, name in enumerate(self._differences):
            if name in self.store:
                out.addcmul_(self.store.get(name, rows), over_rows(weights[:, i], out))
        return out

    def keep_rows(self, rows: Tensor) -> None:
        super().keep_rows(rows)
        self.rows = [self.rows[row] for row in rows.tolist()]
        self._coefficients = self._coefficients[rows]

    def take_measurements(self) -> Tensor | None:
        """Return the inner products of the step, float32 [r, sums]; None at the first computed step."""
        sums, self._sums = self._sums, None
        return sums

    def end_computed_step(self, rows: list[int], sums: list[list[float]], timestep: float) -> dict[int, MissedForecast]:
        missed = {row: self.rows[row].measure(products, timestep) for row, products in zip(rows, sums, strict=False)}
        for row in rows:
            self.rows[row].times = [timestep, *self.rows[row].times][: self.order + 1]
        self._coefficients = self._send()
        return missed

    def _send(self) -> Tensor:
        """Return what skipped steps need: origins, inverse intervals and doubts 1 − gᵢ, [r, 3, order]."""
        held = self.rows[self._first : self._first + self.num_rows]
        numbers = [number for row in held for kind in row.coefficients() for number in kind]
        return torch.tensor(numbers, device=self.device).view(len(held), 3, self.order)


class RowForecast:
    """The numbers that the host keeps about one row's forecasts.

    Attributes:
        times: timesteps of the last computed steps, latest first.
        gains: last measured gains of the first-order and the second-order term.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.times: list[float] = []
        self.gains = [1.0, 0.0][:order]
        # inner products of the stored differences
        self._products = [[0.0] * order for _ in range(order)]

    def coefficients(self) -> list[list[float]]:
        """Return origins t₁, t₀, inverse intervals 1 / (t₁ − t₀), 1 / (t₁ − t₋₁), 0 where unknown, and doubts."""
        origins, inverse = [0.0] * self.order, [0.0] * self.order
        for i, other in enumerate(self.times[1:]):
            origins[i] = self.times[i]
            interval = self.times[0] - other
            inverse[i] = 1 / interval if interval else 0.0  # half precision cannot distinguish some timesteps
        return [origins, inverse, [1 - gain for gain in self.gains]]

    def measure(self, sums: list[float], timestep: float) -> MissedForecast:
        """Compare the true change of the residual with its forecast: set the gains and return the forecast error.

        Args:
            sums: inner products of the change with itself and with each difference, then ‖r‖₂².
            timestep: timestep of the computed step; `times` holds those before it.
        """
        square, *along, norm = sums
        along += [0.0] * (self.order - len(along))
        factors, product = [], 1.0
        for origin, inverse in zip(*self.coefficients()[:2], strict=True):
            ratio = (timestep - origin) * inverse
            product *= ratio
            factors.append(product)
        rho, places = factors[0], range(self.order)
        weights = [factors[i] * _cut(1 - (1 - self.gains[i]) * rho) for i in places]
        missed = square - 2 * sum(weights[i] * along[i] for i in places)
        missed += sum(weights[i] * weights[j] * self._products[i][j] for i in places for j in places)
        left = [factors[i] * along[i] for i in places]
        for i in places:
            own = factors[i] ** 2 * self._products[i][i]
            if own > 0:
                self.gains[i] = _cut(left[i] / own)
                left = [left[j] - self.gains[i] * factors[i] * factors[j] * self._products[i][j] for j in places]
        # the change becomes the first difference; the second one is its deviation from the line
        second, second_square = square - rho * along[0], square - 2 * rho * along[0] + rho**2 * self._products[0][0]
        self._products = [row[: self.order] for row in ([square, second], [second, max(second_square, 0.0)])][
            : self.order
        ]
        return max(missed, 0.0), norm


def _ratios(coefficients: Tensor, timestep: Tensor) -> Tensor:
    """Return (t − t₁)/(t₁ − t₀), (t − t₀)/(t₁ − t₋₁), … up to the order, [r, order]."""
    return (timestep.flatten()[:1].float() - coefficients[:, 0]) * coefficients[:, 1]


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Return the inner products of residuals [r, N, C] per row in float32."""
    return (one.float() * other.float()).sum((1, 2))


def _cut(value: float) -> float:
    return min(max(value, 0.0), 1.0)
