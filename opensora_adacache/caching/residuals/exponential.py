"""The residual of the whole block stack as a sum of exponentials over steps (dynamic mode decomposition).

R batch rows, N tokens, C channels; n stored residuals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.base import MissedForecast, StackResidual
from opensora_adacache.caching.residuals.store import ResidualStore, over_rows, row_index

FEWEST = 4
"""Residuals at equal intervals that a fit needs: one oscillation takes three pairs."""
NOISE = 1e-4
"""Singular values below this fraction of the largest one are noise."""
RIDGE = 1e-8


class ExponentialResidual(StackResidual):
    """Residuals of the last computed steps, continued as a sum of damped or growing oscillations.

    Dynamic mode decomposition (Schmid 2010) finds the linear map that takes each stored residual to the next one, which
    requires equal intervals between them. Its eigenvalues λⱼ give the forecast k intervals after the last computed
    step, Σ φⱼ bⱼ λⱼᵏ. With fewer than four residuals at equal intervals, the forecast is the line through the last two.

    All modes φⱼ are combinations of stored residuals, so only the inner products of the residuals are needed: the
    device computes those of the newest one, and the host fits the modes from them and sends back small tensors, from
    which the weights of the stored residuals follow at every skipped step.

    Source: the DMD calibrator of cache-dit, whose equations, window, threshold and ridge these are. It decomposes
    the residuals themselves, and here their inner products are decomposed, which is the same in exact arithmetic. The
    products are summed in double precision and travel as two float32 numbers.

    Args:
        store: where the residuals are kept, `history` tensors [R, N, C].
        history: largest number of residuals to fit.
        num_rows: R.
        device: device of the rows.
    """

    def __init__(self, store: ResidualStore, history: int, num_rows: int, device: torch.device) -> None:
        super().__init__(store, num_rows, device)
        self.names = [self.NAME] + [f"{self.NAME}, {i} computed before" for i in range(1, history)]
        self.rows = [RowHistory(history) for _ in range(num_rows)]
        self._first = 0
        self._step = 0
        self._sums: Tensor | None = None
        self._waves = self._send()

    def place_among(self, num_rows: int, first: int) -> None:
        self.rows = [RowHistory(len(self.names)) for _ in range(num_rows)]
        self._first = first

    def update(self, after: Tensor, before: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> None:
        residual = (after - before).detach()
        for newer, older in zip(self.names[-2::-1], self.names[:0:-1], strict=True):
            if newer in self.store:
                if older not in self.store and rows is not None:
                    self.store.put(older, torch.zeros_like(self.store.get(newer)))
                self.store.put(older, self.store.get(newer, rows), rows)
        self.store.put(self.NAME, residual, rows)
        exact = residual.double()
        products = [
            (exact * self.store.get(name, rows)).sum((1, 2)) if name in self.store else exact.new_zeros(len(exact))
            for name in self.names
        ]
        sums = torch.stack(products, dim=1)
        high = sums.float()
        self._sums = torch.cat([high, (sums - high).float()], dim=1)
        self._step = step

    def add_to(self, x: Tensor, rows: Tensor | None, step: int, timestep: Tensor) -> Tensor:
        waves = Waves(*(tensor[row_index(rows)] for tensor in self._waves))
        weights = waves.weights(step)
        out = x
        for i, name in enumerate(self.names):
            if name in self.store:
                out = torch.addcmul(out, self.store.get(name, rows), over_rows(weights[:, i], out).to(out.dtype))
        return out

    def keep_rows(self, rows: Tensor) -> None:
        super().keep_rows(rows)
        self.rows = [self.rows[row] for row in rows.tolist()]
        self._waves = Waves(*(tensor[rows] for tensor in self._waves))

    def take_measurements(self) -> Tensor | None:
        """Return the inner products of the newest residual with the stored ones, in two parts, [r, 2n]."""
        sums, self._sums = self._sums, None
        return sums

    def end_computed_step(self, rows: list[int], sums: list[list[float]], timestep: float) -> dict[int, MissedForecast]:
        n = len(self.names)
        for row, parts in zip(rows, sums, strict=True):
            self.rows[row].add(self._step, [high + low for high, low in zip(parts[:n], parts[n:], strict=True)])
        self._waves = self._send()
        return {}

    def _send(self) -> Waves:
        held = [row.waves() for row in self.rows[self._first : self._first + self.num_rows]]
        return Waves(*(torch.stack(parts).float().to(self.device) for parts in zip(*held, strict=True)))


class Waves(NamedTuple):
    """How the weights of stored residuals go on: real parts of sums of complex exponentials, plus straight lines.

    Attributes:
        since: last computed step, [R].
        real: real part of each wave's amplitude, [R, n, n − 1].
        imaginary: its imaginary part.
        growth: logarithm of the growth per step of each wave, [R, n − 1].
        turn: angle per step of each wave, [R, n − 1].
        slope: change per step, [R, n].
    """

    since: Tensor
    real: Tensor
    imaginary: Tensor
    growth: Tensor
    turn: Tensor
    slope: Tensor

    def weights(self, step: int) -> Tensor:
        """Return the weights of the stored residuals at a step, [R, n]."""
        elapsed = (step - self.since)[:, None]
        angle = elapsed * self.turn
        cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
        size = (elapsed * self.growth).exp()[:, None]
        return (size * (cosine * self.real - sine * self.imaginary)).sum(-1) + elapsed * self.slope


@dataclass
class RowHistory:
    """The numbers that the host keeps about the stored residuals of one row, newest first.

    Attributes:
        history: largest number of residuals.
        steps: at which they were computed.
        products: products[i][j − i] is the inner product of residuals i and j ≥ i.
    """

    history: int
    steps: list[int] = field(default_factory=list)
    products: list[list[float]] = field(default_factory=list)

    def add(self, step: int, products: list[float]) -> None:
        """Add a residual with its inner products with itself and with the older ones."""
        self.steps = [step, *self.steps][: self.history]
        self.products = [products, *self.products][: self.history]

    def waves(self) -> Waves:
        """Return how the weights go on, for this row alone (without the axis R), on the host."""
        n = self.history
        parts = Waves(
            *(torch.zeros(shape, dtype=torch.float64) for shape in ((), (n, n - 1), (n, n - 1), n - 1, n - 1, n))
        )
        if not self.steps:
            return parts
        parts.since.fill_(self.steps[0])
        count = self._equal_intervals()
        modes = _modes(self._gram(count)) if count >= FEWEST else None
        if modes is not None:
            amplitudes, eigenvalues = modes
            number, interval = len(eigenvalues), self.steps[0] - self.steps[1]
            newest_first = amplitudes.flip(0)
            parts.real[: len(newest_first), :number] = newest_first.real
            parts.imaginary[: len(newest_first), :number] = newest_first.imag
            parts.growth[:number] = eigenvalues.abs().log() / interval
            parts.turn[:number] = eigenvalues.angle() / interval
            return parts
        parts.real[0, 0] = 1.0  # a wave that neither grows nor turns: reuse
        if 1 < len(self.steps) and count < FEWEST:
            per_step = 1 / (self.steps[0] - self.steps[1])
            parts.slope[0], parts.slope[1] = per_step, -per_step
        return parts

    def _equal_intervals(self) -> int:
        """Return how many of the latest residuals lie at equal intervals."""
        gaps = [newer - older for newer, older in zip(self.steps, self.steps[1:], strict=False)]
        same = next((i for i, gap in enumerate(gaps) if gap != gaps[0]), len(gaps))
        return same + 1

    def _gram(self, count: int) -> Tensor:
        """Return the inner products of the latest residuals, oldest first, [count, count]."""
        rows = [[self.products[min(i, j)][abs(i - j)] for j in range(count)] for i in range(count)]
        return torch.tensor(rows, dtype=torch.float64).flip(0, 1)


def _modes(gram: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return amplitudes [n − 1, modes] for all residuals but the oldest, oldest first, and eigenvalues; None if unfit.

    Args:
        gram: inner products of residuals at equal intervals, oldest first, [n, n].
    """
    earlier, across, later = gram[:-1, :-1], gram[:-1, 1:], gram[1:, 1:]
    squares, vectors = torch.linalg.eigh(earlier)
    singular = squares.clamp(min=0).sqrt()
    kept = singular > singular[-1] * NOISE
    if not kept.any():
        return None
    inverse = vectors[:, kept] / (singular[kept] + RIDGE)
    eigenvalues, turned = torch.linalg.eig(inverse.T @ across @ inverse)
    modes = inverse.to(turned.dtype) @ turned
    # least squares: Σ φⱼ bⱼ is the newest residual
    products = modes.mH @ later.to(turned.dtype)
    target = (products[:, -1:], products @ modes)
    amplitudes = torch.linalg.lstsq(target[1], target[0], driver="gelsd").solution[:, 0]
    moving = eigenvalues.abs() > 1e-12
    found = (modes * amplitudes)[:, moving], eigenvalues[moving]
    return found if moving.any() and all(part.abs().isfinite().all() for part in found) else None
