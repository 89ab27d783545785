"""Names of the predictors, and what each of them stores; `residuals/predictors.py` makes them."""

from __future__ import annotations

PREDICTORS: dict[str, int] = {
    "reuse": 0,
    "line": 1,
    "taylor-1": 1,
    "taylor-2": 2,
    "hermite": 2,
    "heun": 2,
    "chebyshev": 9,
    "exponential": 5,
    "measured-1": 1,
    "measured-2": 2,
}
"""What can replace the stack residual at skipped steps → half-precision residuals held in addition to one of them."""
