"""Replays a recorded run offline to find the schedule that another codebook would have chosen.

An uncached run provides the residual of every step, and so the distance between any two steps and the schedule of any
codebook. The result is an estimate, because a cached run follows a slightly different path. The trace of a cached run
contains less: the mean change per step between computed steps. Replaying a codebook on it assumes that changes add up.

R rows of one video, N tokens, C channels, n steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from opensora_adacache.caching.adacache import AdaCacheConfig, AdaCacheSchedule, SiteMeasurement
from opensora_adacache.caching.distance import change_sums
from opensora_adacache.caching.moreg import motion_score, motion_sums
from opensora_adacache.caching.trace import StepRecord, check_trace, computed_steps


@dataclass(frozen=True)
class Recording:
    """Sums measured on the probe residuals of one uncached video.

    Attributes:
        num_steps: n.
        changes: (earlier step, later step) → ‖later − earlier‖₁ and ‖earlier‖₁ (or the sums of another metric, see
            `distance.change_sums`), for intervals up to the largest rate.
        motion: step → for each stride, ‖p[i:] − p[:−i]‖₁ and ‖p[i:]‖₁ + ‖p[:−i]‖₁.
    """

    num_steps: int
    changes: Mapping[tuple[int, int], tuple[float, ...]]
    motion: Mapping[int, tuple[tuple[float, float], ...]]

    def motion_scores(self) -> list[float]:
        """Return the motion in 0..1 at each step where it can be measured."""
        scores = (motion_score(sums) for sums in self.motion.values())
        return [score for score in scores if score is not None]


class Recorder:
    """Measures the probe residuals of one video as they arrive; holds the last `max_rate` of them.

    Args:
        strides: frame offsets for motion.
        max_rate: largest interval between two steps to measure.
        metric: metric of the distance.
    """

    def __init__(self, strides: Sequence[int], max_rate: int, metric: str = "l1") -> None:
        self._strides = strides
        self._metric = metric
        self._recent: deque[Tensor] = deque(maxlen=max_rate)
        self._changes: dict[tuple[int, int], tuple[float, ...]] = {}
        self._motion: dict[int, tuple[tuple[float, float], ...]] = {}

    def add(self, residual: Tensor, num_frames: int) -> None:
        """Add the residual [R, N, C] of the next step. It is kept without a copy, so do not change it afterwards."""
        step = len(self._motion) + 1
        for interval, earlier in enumerate(reversed(self._recent), start=1):
            self._changes[step - interval, step] = tuple(change_sums(earlier, residual, self._metric).sum(0).tolist())
        sums = motion_sums(residual, num_frames, self._strides).sum(0)
        self._motion[step] = tuple((difference, norm) for difference, norm in sums.tolist())
        self._recent.append(residual)

    def recording(self) -> Recording:
        """Return the measurements so far."""
        return Recording(len(self._motion), self._changes, self._motion)


def replay(config: AdaCacheConfig, recording: Recording) -> list[int]:
    """Return the steps that `config` would compute, counted from 1.

    Raises:
        ValueError: a rate of the codebook is larger than the recorded intervals.
    """
    schedule = AdaCacheSchedule(config, recording.num_steps)
    computed: list[int] = []
    for step in range(1, recording.num_steps + 1):
        if not schedule.computes(step):
            continue
        sites = []
        if computed:
            if (computed[-1], step) not in recording.changes:
                raise ValueError(f"no change from step {computed[-1]} to {step} was recorded: record a larger max_rate")
            motion = recording.motion[step] if schedule.counts_motion(step) else ()
            change, norm, *new_norm = recording.changes[computed[-1], step]
            sites = [SiteMeasurement(change, norm, motion, *new_norm)]
        schedule.end_computed_step(step, sites)
        computed.append(step)
    return computed


def replay_trace(codebook: Mapping[float, int], trace: Sequence[StepRecord]) -> list[int]:
    """Return the steps, counted from 1, that another codebook would compute on the video of an AdaCache trace.

    Motion regularization stays unchanged: each change keeps the motion factor from the trace.

    Raises:
        ValueError: it is not a whole trace, or it has no distances because another policy made it.
    """
    check_trace(trace)
    if not trace or not trace[-1].computed:
        raise ValueError(
            "this trace does not end with a computed step, as those of AdaCache do: it was cut off, or another policy "
            "made it"
        )
    changes = _changes_per_step(trace)
    schedule = AdaCacheSchedule(AdaCacheConfig(codebook), len(trace))
    computed: list[int] = []
    for step in range(1, len(trace) + 1):
        if schedule.computes(step):
            since = range(computed[-1] + 1, step + 1) if computed else range(0)
            sites = [SiteMeasurement(sum(changes[s] for s in since), 1.0)] if computed else []
            schedule.end_computed_step(step, sites)
            computed.append(step)
    return computed


def _changes_per_step(trace: Sequence[StepRecord]) -> dict[int, float]:
    """Return step → relative change since the previous step, times its motion factor, spread over skipped steps."""
    changes: dict[int, float] = {}
    steps = computed_steps(trace)
    for early, late in zip(steps, steps[1:], strict=False):
        record = trace[late - 1]
        if record.distance is None:
            raise ValueError("this trace has no distances: only AdaCache measures what a codebook needs")
        factor = 1.0 if record.motion is None else record.motion + abs(record.motion_gradient or 0.0)
        # the distance was divided by the current rate, which is too large when a forced step cuts it short
        change = factor * record.distance * trace[early - 1].rate / (late - early)
        changes.update(dict.fromkeys(range(early + 1, late + 1), change))
    return changes
