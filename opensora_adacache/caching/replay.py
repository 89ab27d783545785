"""What another codebook would have done: replay a recorded run offline.

An uncached run shows the residual of every step, so the distance between any two steps is known, and with it the
schedule of any codebook. It is an estimate: a cached run walks a slightly different path.

R rows of one video, N tokens, C channels, n steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
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
        changes: (earlier step, later step) → ‖later − earlier‖₁ and ‖earlier‖₁, for gaps up to some largest rate.
        motion: step → per stride ‖p[i:] − p[:−i]‖₁ and ‖p[i:]‖₁ + ‖p[:−i]‖₁.
    """

    num_steps: int
    changes: Mapping[tuple[int, int], tuple[float, float]]
    motion: Mapping[int, tuple[tuple[float, float], ...]]

    def motion_scores(self) -> list[float]:
        """Return motion in 0..1 at each step where it can be measured."""
        scores = (motion_score(sums) for sums in self.motion.values())
        return [score for score in scores if score is not None]


def record(residuals: Iterable[Tensor], num_frames: int, strides: Sequence[int], max_rate: int) -> Recording:
    """Measure the probe residuals [R, N, C] of steps 1..n of one video."""
    recorder = Recorder(strides, max_rate)
    for residual in residuals:
        recorder.add(residual, num_frames)
    return recorder.recording()


class Recorder:
    """Measures the probe residuals of one video as they come; holds the last `max_rate` of them.

    Args:
        strides: frame distances of motion.
        max_rate: largest gap between two steps that is measured.
    """

    def __init__(self, strides: Sequence[int], max_rate: int) -> None:
        self._strides = strides
        self._recent: deque[Tensor] = deque(maxlen=max_rate)
        self._changes: dict[tuple[int, int], tuple[float, float]] = {}
        self._motion: dict[int, tuple[tuple[float, float], ...]] = {}

    def add(self, residual: Tensor, num_frames: int) -> None:
        """Take the residual [R, N, C] of the next step; it is kept, so it must not be changed afterwards."""
        step = len(self._motion) + 1
        for gap, earlier in enumerate(reversed(self._recent), start=1):
            change, norm = change_sums(earlier, residual).sum(0).tolist()
            self._changes[step - gap, step] = (change, norm)
        sums = motion_sums(residual, num_frames, self._strides).sum(0)
        self._motion[step] = tuple((difference, norm) for difference, norm in sums.tolist())
        self._recent.append(residual)

    def recording(self) -> Recording:
        """Return what was measured."""
        return Recording(len(self._motion), self._changes, self._motion)


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
            sites = [SiteMeasurement(*recording.changes[computed[-1], step], motion)]
        schedule.end_computed_step(step, sites)
        computed.append(step)
    return computed
