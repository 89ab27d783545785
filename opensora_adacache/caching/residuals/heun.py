"""The residual of the whole block stack as the solution of an ODE, forecast step by step and pulled back (FoCa).

R batch rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.residuals.taylor import TaylorResidual


class HeunResidual(TaylorResidual):
    """FoCa's forecast (BDF2) and correction (Heun) of each skipped step.

    With r₋₁ and r₀ the residuals of the last two steps, computed or forecast, the next one is forecast as
    (4 r₀ − r₋₁ + 2 r₀′) / 3, where r₀′ = r₀ − r₋₁. The slope of this forecast, r̂ − r₀, is then averaged with the slope
    D between the last two computed residuals: r₁ = r₀ + (D + r̂ − r₀) / 2.

    Since r̂ − r₀ = r₀ − r₋₁, every skipped step halves the deviation of the local slope from D. The k-th skipped step
    is therefore, without a loop,

        r + k·D + (1 − 2⁻ᵏ)·(r − r̃ − D)

    with the last computed residual r and the residual r̃, computed or forecast, of the step before it.

    Source: FoCa, arXiv 2508.16211, equations 6 to 8.

    Args:
        store: where the residual, D and the deviation are kept, three tensors [R, N, C].
        num_rows: R.
        device: device of the rows.
    """

    def __init__(self, store: ResidualStore, num_rows: int, device: torch.device) -> None:
        super().__init__(store, 2, num_rows, device)

    def weight(self, term: int, distance: Tensor) -> Tensor:
        return distance if term == 1 else 1 - torch.exp2(-distance)

    def _update_tensors(self, residual: Tensor, rows: Tensor | None, interval: Tensor) -> None:
        if self.NAME not in self.store:
            # two tensors, because rows are written into each of them later
            slope, deviation = torch.zeros_like(residual), torch.zeros_like(residual)
        else:
            last, *terms = (self.store.get(name, rows) for name in self.names)
            slope = (residual - last) / interval.to(residual.dtype)
            before = last
            for term, tensor in enumerate(terms, start=1):
                before = before + self.weight(term, interval - 1).to(residual.dtype) * tensor
            deviation = residual - before - slope
        for name, tensor in zip(self.names, (residual, slope, deviation), strict=True):
            self.store.put(name, tensor, rows)
