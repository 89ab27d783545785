"""Makes what provides the stack residual at skipped steps from its name in `caching.predictors.PREDICTORS`."""

from __future__ import annotations

import torch

from opensora_adacache.caching.residuals.base import StackResidual
from opensora_adacache.caching.residuals.chebyshev import ChebyshevResidual
from opensora_adacache.caching.residuals.exponential import ExponentialResidual
from opensora_adacache.caching.residuals.hermite import HermiteResidual
from opensora_adacache.caching.residuals.heun import HeunResidual
from opensora_adacache.caching.residuals.measured_forecast import MeasuredForecast
from opensora_adacache.caching.residuals.store import ResidualStore
from opensora_adacache.caching.residuals.taylor import LineResidual, TaylorResidual

HERMITE_ORDER, HERMITE_SIGMA = 2, 0.5
HISTORY = 6
CHEBYSHEV_DEGREE, RIDGE = 4, 0.1


def make_predictor(name: str, store: ResidualStore, num_rows: int, device: torch.device) -> StackResidual:
    """Return a predictor with its published settings.

    Args:
        name: a name in `caching.predictors.PREDICTORS`.
        store: where it keeps its tensors.
        num_rows: R, the batch rows.
        device: device of the rows.
    """
    kind, _, order = name.partition("-")
    match kind:
        case "reuse":
            return TaylorResidual(store, 0, num_rows, device)
        case "taylor":
            return TaylorResidual(store, int(order), num_rows, device)
        case "measured":
            return MeasuredForecast(store, int(order), num_rows, device)
        case "line":
            return LineResidual(store, num_rows, device)
        case "hermite":
            return HermiteResidual(store, HERMITE_ORDER, HERMITE_SIGMA, num_rows, device)
        case "heun":
            return HeunResidual(store, num_rows, device)
        case "chebyshev":
            return ChebyshevResidual(store, CHEBYSHEV_DEGREE, RIDGE, 1.0, num_rows, device)
        case "exponential":
            return ExponentialResidual(store, HISTORY, num_rows, device)
    raise KeyError(name)
