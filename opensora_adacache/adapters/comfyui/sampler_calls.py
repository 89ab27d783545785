"""Which step and which guidance branch a call of a transformer in ComfyUI belongs to.

A sampler of ComfyUI evaluates the model at noise levels, sigmas. For each evaluation, ComfyUI calls the transformer
once or several times, with one or several conditions in each batch. It does not name steps or branches, but passes the
noise level of the evaluation and an identifier of each condition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

NUM_READ = 4
"""Number of evaluations whose noise level is read on the host. If these are the first noise levels of the run in order,
the sampler evaluates the model once per step, and the others are counted. All samplers of ComfyUI 0.3.64 that evaluate
it more often, or at noise levels of their own, show that within them."""
TOLERANCE = 0.05
"""Some samplers compute a noise level anew: it may differ by this fraction of a step."""
MOST_CALLS = 4
"""Calls with the same conditions in one interval of the noise levels that are cached: one for most samplers, two for
Heun, twice as many with skip-layer guidance. Adaptive samplers take any number, which would fill the memory."""


class SamplerCalls:
    """Names the branches of one sampling run.

    A step is an interval between two of the run's noise levels. Calls with the same conditions in one interval are
    branches of their own: the second evaluations of Heun's method, and the extra call of skip-layer guidance.

    Args:
        sigmas: noise levels of the run, n + 1 falling numbers.
        steps: indices of the steps that are cached, counted from 0; the others run as they are.
    """

    def __init__(self, sigmas: Sequence[float], steps: range) -> None:
        self.sigmas = sigmas
        self.steps = steps
        self._sigma: Tensor | None = None
        self._num_evaluations = 0
        self._step = 0
        self._is_regular = True
        self._num_calls: Counter[tuple[int, tuple]] = Counter()
        self._names: dict[tuple[tuple, int], str] = {}

    def branch_of(self, options: Mapping[str, Any]) -> str | None:
        """Return the name of a call's branch; None for a call that is not cached.

        Args:
            options: the ``transformer_options`` of the call.
        """
        sigma = options["sigmas"]
        if sigma is not self._sigma:  # kept alive, so that no other tensor takes its place
            self._sigma = sigma
            self._step = self._step_of(sigma)
            self._num_evaluations += 1
        conditions = tuple(options["uuids"])
        number = self._num_calls[self._step, conditions]
        self._num_calls[self._step, conditions] += 1
        if self._step not in self.steps or number >= MOST_CALLS:
            return None
        return self._name(conditions, number, options["cond_or_uncond"])

    def _step_of(self, sigma: Tensor) -> int:
        """Return the step of the next evaluation."""
        index, n = self._num_evaluations, len(self.sigmas) - 1
        if self._is_regular and NUM_READ <= index < n:
            return index
        value = float(sigma.flatten()[0])
        self._is_regular &= index < n and is_near(value, index, self.sigmas)
        return step_at(value, self.sigmas)

    def _name(self, conditions: tuple, number: int, kinds: Sequence[int]) -> str:
        """Return the name of a branch: "cond", "uncond", "cond+uncond", with a number where that is taken."""
        key = (conditions, number)
        if key not in self._names:
            name = "+".join("uncond" if kind else "cond" for kind in kinds)
            taken = sum(known.partition(" ")[0] == name for known in self._names.values())
            self._names[key] = f"{name} {taken + 1}" if taken else name
        return self._names[key]


def is_near(sigma: float, step: int, sigmas: Sequence[float]) -> bool:
    """Return whether a noise level is that at the beginning of a step, but for rounding.

    >>> [is_near(sigma, 1, [1.0, 0.8, 0.5, 0.0]) for sigma in (0.8, 0.801, 0.9)]
    [True, True, False]
    """
    return abs(sigma - sigmas[step]) <= TOLERANCE * (sigmas[step] - sigmas[step + 1])


def step_at(sigma: float, sigmas: Sequence[float]) -> int:
    """Return the index of the step that begins at a noise level, but for rounding, or contains it.

    >>> [step_at(sigma, [1.0, 0.8, 0.5, 0.0]) for sigma in (1.0, 0.9, 0.8001, 0.5, 0.2, 0.0)]
    [0, 0, 1, 2, 2, 2]
    """
    later = zip(sigmas, sigmas[1:-1], strict=False)
    return sum(sigma <= end + TOLERANCE * (start - end) for start, end in later)
