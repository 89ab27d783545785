"""What another codebook would have done: replay a recorded run offline.

An uncached run shows the residual of every step, so the distance between any two steps is known, and with it the
schedule of any codebook. It is an estimate: a cached run walks a slightly different path.

R rows of one video, N tokens, C channels, n steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from opensora_adacache.caching.config import AdaCacheConfig
from opensora_adacache.caching.distance import change_sums
from opensora_adacache.caching.motion import motion_score, motion_sums
from opensora_adacache.caching.schedule import AdaCacheSchedule, SiteMeasurement


@dataclass(frozen=True)
class Recording:
    """Sums measured on the probe residuals of one uncached video.

    Attributes:
        num_steps: n.
        changes: (earlier step, later step) → ‖later − earlier‖₁ and ‖earlier‖₁ (or the sums of another metric, see
            `distance.change_sums`), for gaps up to some largest rate.
        motion: step → per stride ‖p[i:] − p[:−i]‖₁ and ‖p[i:]‖₁ + ‖p[:−i]‖₁.
    """

    num_steps: int
    changes: Mapping[tuple[int, int], tuple[float, ...]]
    motion: Mapping[int, tuple[tuple[float, float], ...]]

    def motion_scores(self) -> list[float]:
        """Return motion in 0..1 at each step where it can be measured."""
        scores = (motion_score(sums) for sums in self.motion.values())
        return [score for score in scores if score is not None]


def record(
    residuals: Sequence[Tensor], num_frames: int, strides: Sequence[int], max_rate: int, metric: str = "l1"
) -> Recording:
    """Measure the probe residuals [R, N, C] of steps 1..n of one video, by the metric of the configs to be replayed."""
    changes = {}
    for earlier in range(len(residuals)):
        for later in range(earlier + 1, min(earlier + max_rate, len(residuals) - 1) + 1):
            change = change_sums(residuals[earlier], residuals[later], metric).sum(0)
            changes[earlier + 1, later + 1] = tuple(change.tolist())
    motion = {}
    for step, residual in enumerate(residuals, start=1):
        sums = motion_sums(residual, num_frames, strides).sum(0)
        motion[step] = tuple((difference, norm) for difference, norm in sums.tolist())
    return Recording(len(residuals), changes, motion)


def replay(config: AdaCacheConfig, recording: Recording) -> list[int]:
    """Return the steps that `config` would compute, counted from 1.

    Raises:
        ValueError: a rate of the codebook is larger than the gaps that were recorded.
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
