"""Forecasts that are linear combinations of computed residuals. Steps are counted from 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Combination = dict[int, float]
"""Computed step → weight of its residual."""


def slots(combinations: Mapping[int, Combination], computed: Sequence[int]) -> dict[int, int]:
    """Return computed step → the place where its residual is kept, for steps that a later forecast uses.

    A place is free again after the last forecast that uses its residual, so there are as few places as possible.

    >>> slots({3: {1: -1.0, 2: 2.0}, 6: {5: 1.0}}, [1, 2, 4, 5])
    {1: 0, 2: 1, 5: 0}
    """
    last_use = {source: step for step in sorted(combinations) for source in combinations[step]}
    held: dict[int, int] = {}
    taken: dict[int, int] = {}
    for step in computed:
        taken = {place: source for place, source in taken.items() if last_use[source] > step}
        if step in last_use:
            place = next(place for place in range(len(taken) + 1) if place not in taken)
            held[step], taken[place] = place, step
    return held
