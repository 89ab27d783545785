"""Forecasts that are linear combinations of earlier residuals, computed or forecast, as ones of computed residuals.

n steps, counted from 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

Combination = dict[int, float]
"""Computed step → weight of its residual."""


def of_computed(weights: Mapping[int, Mapping[int, float]], computed: Collection[int]) -> dict[int, Combination]:
    """Return each forecast as a combination of computed residuals alone.

    Args:
        weights: skipped step → earlier step → weight of its residual, which is a forecast if that step is skipped too.
        computed: the computed steps.

    >>> of_computed({3: {1: -1.0, 2: 2.0}, 4: {2: -1.0, 3: 2.0}}, [1, 2])
    {3: {1: -1.0, 2: 2.0}, 4: {2: 3.0, 1: -2.0}}
    """
    found: dict[int, Combination] = {}
    for step in sorted(weights):
        combination: Combination = {}
        for earlier, weight in weights[step].items():
            parts = {earlier: 1.0} if earlier in computed else found[earlier]
            for source, part in parts.items():
                combination[source] = combination.get(source, 0.0) + weight * part
        found[step] = combination
    return found


def slots(combinations: Mapping[int, Combination], computed: Sequence[int]) -> dict[int, int]:
    """Return computed step → the place where its residual is kept, at least until the next step computes.

    A place is free again after the last forecast that uses its residual.

    >>> slots({3: {1: -1.0, 2: 2.0}, 6: {5: 1.0}}, [1, 2, 4, 5])
    {1: 0, 2: 1, 4: 0, 5: 0}
    """
    last_use = {source: step for step in sorted(combinations) for source in combinations[step]}
    held: dict[int, int] = {}
    for step in computed:
        taken = {place for source, place in held.items() if last_use.get(source, 0) > step}
        held[step] = next(place for place in range(len(taken) + 1) if place not in taken)
    return held
