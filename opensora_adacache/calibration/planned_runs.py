"""Runs by schedules made in advance, each of which begins where it departs from an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from torch import Tensor

from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.calibration.annealing import Schedule
from opensora_adacache.calibration.runs import CalibrationRuns, RecordedRun

_KEPT = 3


def shared_start(one: Schedule, other: Schedule) -> int:
    """Return the last step that both schedules compute before they differ, 0 if there is none.

    >>> shared_start((1, 2, 4, 6), (1, 2, 5, 6)), shared_start((1, 3), ())
    (2, 0)
    """
    return max(
        (step for step, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))), default=0
    )


class PlannedRuns:
    """Makes videos by one schedule after the other, with plain reuse at skipped steps.

    A search changes a few steps of a schedule at a time. Up to the last computed step that a schedule shares with a
    recent one, its run returns the recorded outputs of that one, so the latents are the same and about half of the
    steps are saved.

    Args:
        runs: runs of the calibration prompts.
        jobs: the jobs to make.
    """

    def __init__(self, runs: CalibrationRuns, jobs: Sequence[Any]) -> None:
        self.runs = runs
        self.jobs = jobs
        self._recent: dict[Schedule, RecordedRun] = {}  # the one that was used last comes last

    def latents(self, steps: Schedule) -> Tensor:
        """Return the final latents of the jobs, [jobs, …]."""
        like = max(self._recent, key=lambda other: shared_start(steps, other), default=())
        first = shared_start(steps, like)
        if first > 1:
            recorded = self._recent[like] = self._recent.pop(like)
            later = PlannedConfig(steps=tuple(step - first + 1 for step in steps if step >= first))
            made = self.runs.record_from(first, later, recorded.outputs, self.jobs)
        else:
            made = self.runs.record(PlannedConfig(steps=steps), self.jobs)
        self._recent[steps] = made
        if len(self._recent) > _KEPT:
            del self._recent[next(iter(self._recent))]
        return made.latents
