"""AdaCache as a policy: measures residuals on the device, decides for each video on the host."""

from __future__ import annotations

import torch
from torch import Tensor

from opensora_adacache.caching.config import AdaCacheConfig
from opensora_adacache.caching.distance import change_sums
from opensora_adacache.caching.moreg import motion_sums
from opensora_adacache.caching.policy import CachePolicy, Decision, StackView
from opensora_adacache.caching.schedule import AdaCacheSchedule, SiteMeasurement


class AdaCachePolicy(CachePolicy):
    """Decide which groups of rows compute. A group is what decides together: a batch, or one video.

    Args:
        config: the settings.
        num_steps: denoising steps of the run.
        groups: the rows of each group; every row is in one group.
    """

    def __init__(self, config: AdaCacheConfig, num_steps: int, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.schedules = [AdaCacheSchedule(config, num_steps) for _ in groups]
        self._strides = config.moreg.strides if config.moreg else ()
        self._metric = config.metric
        self._sums: list[Tensor] = []

    def decide(self, view: StackView) -> list[bool]:
        return [schedule.computes(view.step) for schedule in self.schedules]

    @property
    def rates(self) -> list[int]:
        return [schedule.rate for schedule in self.schedules]

    def observe_probe(self, step: int, old: Tensor, new: Tensor, num_frames: int) -> None:
        """Measure the old and new residual [r, N, C] of one probe site; stays on the device."""
        sums = change_sums(old, new, self._metric)
        if self.schedules[0].counts_motion(step):
            motion = motion_sums(new, num_frames, self._strides)
            sums = torch.cat([sums, motion.flatten(1)], dim=1)
        self._sums.append(sums)

    def take_measurements(self) -> Tensor:
        """Return what the step measured so far, float32 [sites, r, sums] on their device, and forget it."""
        sums, self._sums = self._sums, []
        return torch.stack(sums) if sums else torch.empty(0, 0, 0)

    def end_computed_step(
        self, step: int, computed: list[bool], measured: list[list[list[float]]]
    ) -> list[Decision | None]:
        """Let the groups that computed decide.

        Args:
            step: counted from 1.
            computed: for each group whether it computed; its rows were observed in rising order.
            measured: `take_measurements` as numbers, [sites][r][sums].

        Returns:
            A decision for each group; None for one that did not compute or had nothing to measure.
        """
        place = {row: index for index, row in enumerate(self.rows_of(computed))}
        decisions: list[Decision | None] = []
        for group, schedule, did in zip(self.groups, self.schedules, computed, strict=True):
            if not did:
                decisions.append(None)
                continue
            sites = [pool([site[place[row]] for row in group], self._metric) for site in measured]
            decisions.append(schedule.end_computed_step(step, sites))
        return decisions


def pool(rows: list[list[float]], metric: str) -> SiteMeasurement:
    """Add up the sums of rows that decide together: those of the metric, then a difference and a norm per stride."""
    change, norm, *rest = (sum(column) for column in zip(*rows, strict=True))
    new_norm = rest.pop(0) if metric == "cosine" else 0.0
    return SiteMeasurement(change, norm, tuple(zip(rest[::2], rest[1::2], strict=True)), new_norm)
