"""Forecasts that are linear combinations of earlier residuals, computed or forecast. Steps are counted from 1."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Combination = dict[int, float]
"""Earlier step → weight of its residual."""


def of_computed(weights: Mapping[int, Combination], computed: Collection[int]) -> dict[int, Combination]:
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


def slots(weights: Mapping[int, Combination], computed: Collection[int]) -> dict[int, int]:
    """Return step → the place where its residual is kept, for computed steps and forecasts that a later one uses.

    A place is free again after the last forecast that uses its residual. Any residual of a computed step is kept until
    the next one is stored.

    Args:
        weights: skipped step → earlier step → weight of its residual or forecast.
        computed: the computed steps.

    >>> slots({3: {1: -1.0, 2: 2.0}, 6: {3: 0.5, 5: 1.0}}, [1, 2, 4, 5])
    {1: 0, 2: 1, 3: 0, 4: 1, 5: 1}
    """
    last_use = {source: step for step in sorted(weights) for source in weights[step]}
    held: dict[int, int] = {}
    for step in sorted({*computed, *last_use}):
        taken = {place for source, place in held.items() if last_use.get(source, 0) > step}
        held[step] = next(place for place in range(len(taken) + 1) if place not in taken)
    return held
