"""Exact planners of fixed schedules: which K of n steps to compute for the least cost.

Costs come from calibration runs. All planners are dynamic programs over (number of computed steps, last one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def plan_least_sum(costs: Mapping[tuple[int, int, int], float], num_steps: int, num_computed: int) -> list[int]:
    """Return the schedule of least total cost if costs depend on two computed steps and the next (DPCache).

    DPCache's cost C[i, j, k] is the error over steps j + 1..k of forecasting from computed steps i and j. Its authors'
    planner keeps a single predecessor for each state, whereas this one is exact:
    E[m, j, k] = min_i E[m − 1, i, j] + C[i, j, k].

    Args:
        costs: (i, j, k) with i < j < k → cost of computing k next after i and j. Missing entries are forbidden. A
            schedule begins with steps 1 and 2.
        num_steps: number of steps n. The last step is always computed.
        num_computed: number of computed steps K.

    Raises:
        ValueError: no allowed schedule has that many computed steps.
    """
    best: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {(1, 2): (0.0, (1, 2))}
    for _ in range(num_computed - 2):
        following: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}
        for (i, j), (total, path) in best.items():
            for k in range(j + 1, num_steps + 1):
                cost = costs.get((i, j, k))
                if cost is not None and total + cost < following.get((j, k), (math.inf, ()))[0]:
                    following[j, k] = (total + cost, (*path, k))
        best = following
    ends = [entry for (_, last), entry in best.items() if last == num_steps]
    return _path(min(ends, default=None), num_steps, num_computed)


def plan_least_worst(costs: Mapping[tuple[int, int], float], num_steps: int, num_computed: int) -> list[int]:
    """Return the schedule whose segment costs, sorted in descending order, are lexicographically least (LeMiCa).

    It is exact by L[b, j] = lexmin_i sort(L[b − 1, i] ∪ {w(i, j)}), because adding the same cost to two sorted lists
    keeps their order. LeMiCa's w(i, j) is the error of the final latents if only the steps between i and j reuse.

    Args:
        costs: (i, j) with i < j → cost of reusing i until j is computed. Missing entries are 0 for adjacent steps and
            forbidden otherwise.
        num_steps: number of steps n. Steps 1 and n are always computed.
        num_computed: number of computed steps K.

    Raises:
        ValueError: no allowed schedule has that many computed steps.
    """
    best: dict[int, tuple[tuple[float, ...], tuple[int, ...]]] = {1: ((), (1,))}
    for _ in range(num_computed - 1):
        following: dict[int, tuple[tuple[float, ...], tuple[int, ...]]] = {}
        for i, (worst, path) in best.items():
            for j in range(i + 1, num_steps + 1):
                cost = costs.get((i, j), 0.0 if j == i + 1 else None)
                if cost is None:
                    continue
                entry = (tuple(sorted((*worst, cost), reverse=True)), (*path, j))
                if j not in following or entry < following[j]:
                    following[j] = entry
        best = following
    return _path(best.get(num_steps), num_steps, num_computed)


def plan_least_total(costs: Mapping[tuple[int, int], float], num_steps: int, num_computed: int) -> list[int]:
    """Return the schedule of least total cost if costs depend on a computed step and the next.

    It is exact by E[m, j] = min_i E[m − 1, i] + w(i, j). With a video's own costs, it shows what a policy could
    achieve.

    Args:
        costs: see `plan_least_worst`.
        num_steps: number of steps n. Steps 1 and n are always computed.
        num_computed: number of computed steps K.

    Raises:
        ValueError: no allowed schedule has that many computed steps.
    """
    best: dict[int, tuple[float, tuple[int, ...]]] = {1: (0.0, (1,))}
    for _ in range(num_computed - 1):
        following: dict[int, tuple[float, tuple[int, ...]]] = {}
        for i, (total, path) in best.items():
            for j in range(i + 1, num_steps + 1):
                cost = costs.get((i, j), 0.0 if j == i + 1 else None)
                if cost is not None and total + cost < following.get(j, (math.inf, ()))[0]:
                    following[j] = (total + cost, (*path, j))
        best = following
    return _path(best.get(num_steps), num_steps, num_computed)


def steps_below(errors: Mapping[tuple[int, int], float], num_steps: int, threshold: float) -> tuple[int, ...]:
    """Return the steps that compute if each step whose error since the last computed one is below a threshold reuses.

    Args:
        errors: (i, s) → error of reusing step i at step s. Where one is missing, s computes.
        num_steps: number of steps n.
        threshold: ERTACache's λ.

    >>> steps_below({(1, 2): 0.1, (1, 3): 0.4, (3, 4): 0.2}, 4, 0.3)
    (1, 3)
    """
    steps = [1]
    for step in range(2, num_steps + 1):
        if not errors.get((steps[-1], step), math.inf) < threshold:
            steps.append(step)
    return tuple(steps)


def split_budget(totals: Sequence[Mapping[int, float]], budget: int) -> list[int]:
    """Return the number of computed steps of each video that sum to `budget` at the least total cost.

    Args:
        totals: for each video, K → cost of its best schedule with K computed steps.
        budget: total computed steps of all videos.

    Raises:
        ValueError: no split adds up to the budget.

    >>> split_budget([{2: 9.0, 3: 1.0, 4: 0.0}, {2: 2.0, 3: 1.5, 4: 0.0}], 5)
    [3, 2]
    """
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for choices in totals:
        following: dict[int, tuple[float, tuple[int, ...]]] = {}
        for spent, (total, split) in best.items():
            for steps, cost in choices.items():
                if spent + steps <= budget and total + cost < following.get(spent + steps, (math.inf, ()))[0]:
                    following[spent + steps] = (total + cost, (*split, steps))
        best = following
    if budget not in best:
        raise ValueError(f"no split of {budget} computed steps over {len(totals)} videos; choose another budget")
    return list(best[budget][1])


def _path(entry: tuple[object, tuple[int, ...]] | None, num_steps: int, num_computed: int) -> list[int]:
    if entry is None:
        raise ValueError(f"no schedule computes {num_computed} of {num_steps} steps with the costs given")
    return list(entry[1])
