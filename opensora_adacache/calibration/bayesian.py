"""Bayesian optimization over a unit cube, for a loss that is slow to evaluate and may be constant in places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.quasirandom import SobolEngine

Points = NDArray[Any]

FIRST_POINTS = 16
# Weight of the uncertainty in the first and in the last round, GCache's.
_CAUTIOUS, _GREEDY = 2.576, 1.0
_CANDIDATES = 2000
_REACHES = (0.1, 0.2, 0.4, 0.8, 1.6)
_NOISE = 1e-4


def minimize(loss: Callable[[Points], float], num_dimensions: int, rounds: int, seed: int = 0) -> Points:
    """Return the point of least loss found.

    A Gaussian process with a squared exponential kernel models the losses so far. The next point has the lowest
    confidence bound, mean − κ·deviation, of random candidates; κ falls from 2.576 to 1 over the rounds.

    Args:
        loss: the loss at a point of [0, 1]^d.
        num_dimensions: d.
        rounds: number of evaluations, at least the 16 first ones, which are points of a Sobol sequence.
        seed: seed of the candidates.

    >>> minimize(lambda point: float(abs(point - 0.3).sum()), 1, 30).round(2).tolist()
    [0.3]
    """
    rng = np.random.default_rng(seed)
    points = SobolEngine(num_dimensions).draw(FIRST_POINTS).double().numpy()
    losses = [loss(point) for point in points]
    for kappa in np.linspace(_CAUTIOUS, _GREEDY, rounds - FIRST_POINTS):
        candidates = rng.random((_CANDIDATES, num_dimensions))
        mean, deviation = posterior(points, np.array(losses), candidates)
        points = np.vstack([points, candidates[np.argmin(mean - kappa * deviation)]])
        losses.append(loss(points[-1]))
    return points[np.argmin(losses)]


def posterior(points: Points, losses: Points, candidates: Points) -> tuple[Points, Points]:
    """Return mean and standard deviation of the process at candidates [c, d], given losses [m] at points [m, d].

    Losses are brought to mean 0 and deviation 1; the reach of the kernel is the one of highest likelihood among a few.
    """
    center, scale = losses.mean(), losses.std() or 1.0
    values = (losses - center) / scale
    fits = [_fit(points, values, reach) for reach in _REACHES]
    _, reach, factor, solved = max(fits, key=lambda fit: fit[0])
    across = _kernel(candidates, points, reach)
    spread = np.linalg.solve(factor, across.T)
    variance = np.maximum(1 - (spread**2).sum(0), 0.0)
    return center + scale * (across @ solved), scale * np.sqrt(variance)


def _fit(points: Points, values: Points, reach: float) -> tuple[float, float, Points, Points]:
    """Return the log likelihood, the reach, the Cholesky factor of the kernel matrix, and its inverse times values."""
    factor = np.linalg.cholesky(_kernel(points, points, reach) + _NOISE * np.eye(len(points)))
    solved = np.linalg.solve(factor.T, np.linalg.solve(factor, values))
    likelihood = float(-0.5 * values @ solved - np.log(factor.diagonal()).sum())
    return likelihood, reach, np.asarray(factor), solved


def _kernel(one: Points, other: Points, reach: float) -> Points:
    distances = ((one[:, None] - other[None]) ** 2).sum(-1)
    return np.exp(-0.5 * distances / reach**2)
