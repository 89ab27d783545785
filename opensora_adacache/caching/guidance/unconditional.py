"""The unconditional output of a run whose steps leave out the unconditional rows.

B videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opensora_adacache.caching.guidance.low_pass import low_frequencies
from opensora_adacache.caching.guidance.settings import GuidanceReuse, active
from opensora_adacache.caching.residuals.store import ResidualStore


@dataclass(frozen=True)
class Picture:
    """Where the pictures of a model's output are.

    Attributes:
        axes: the axes along height and width, after `grid` is applied.
        grid: frames, rows and columns, if axis 1 of the output holds tokens in this order.
    """

    axes: tuple[int, int] = (-2, -1)
    grid: tuple[int, int, int] | None = None

    def low_frequencies(self, x: Tensor) -> Tensor:
        """Return the low spatial frequencies of an output."""
        if self.grid is None:
            return low_frequencies(x, self.axes)
        return low_frequencies(x.unflatten(1, self.grid), self.axes).flatten(1, 3)


NO_GUIDANCE = (
    "guidance_reuse needs both guidance branches of each video, in one batch or in calls that the pipeline names "
    "'cond' and 'uncond', and this run does not show them: switch guidance on, or leave guidance_reuse out"
)
PLAIN = Picture()
"""Height and width are the last two axes."""


class UnconditionalOutput:
    """Knows how the unconditional output differs from the conditional one, and rebuilds it from that.

    Args:
        settings: the settings.
        num_sampling_steps: n.
        num_videos: B.
    """

    DIFFERENCE = "difference of the guidance branches"
    LOW = "its low frequencies"

    def __init__(self, settings: GuidanceReuse, num_sampling_steps: int, num_videos: int) -> None:
        self.settings = settings
        self.num_sampling_steps = num_sampling_steps
        self.num_videos = num_videos
        self.store = ResidualStore()
        self.first_step = settings.first_step(num_sampling_steps)
        self._measured_at = [0] * num_videos
        self._is_low_current = False

    def measure(self, step: int, cond: Tensor, uncond: Tensor, videos: Sequence[int], index: Tensor | None) -> None:
        """Receive both outputs of a step for the videos that computed.

        Args:
            step: counted from 1.
            cond: conditional output of these videos.
            uncond: unconditional output.
            videos: the videos.
            index: the same as a tensor; None for all videos.
        """
        self.store.put(self.DIFFERENCE, uncond.float() - cond.float(), index)
        self._is_low_current = False
        for video in videos:
            self._measured_at[video] = step

    def due(self, step: int, computed: Sequence[int]) -> list[int]:
        """Return those of the videos that compute their conditional row that compute the unconditional one as well."""
        return [video for video in computed if self.settings.is_due(step, self._measured_at[video])]

    def rebuild(self, step: int, cond: Tensor, picture: Picture) -> Tensor:
        """Return the unconditional output of all videos, from the conditional one of the step."""
        if not self._is_low_current:
            self.store.put(self.LOW, picture.low_frequencies(self.store.get(self.DIFFERENCE)))
            self._is_low_current = True
        weights = [self.settings.weights(step, last, self.num_sampling_steps) for last in self._measured_at]
        if len(set(weights)) == 1:
            return self._moved(cond, slice(None), *weights[0])
        rows = [slice(video, video + 1) for video in range(self.num_videos)]
        return torch.cat([self._moved(cond[row], row, *pair) for row, pair in zip(rows, weights, strict=True)])

    def _moved(self, cond: Tensor, row: slice, low: float, high: float) -> Tensor:
        whole, part = self.store.get(self.DIFFERENCE)[row], self.store.get(self.LOW)[row]
        return cond.float().add(whole, alpha=high).add_(part, alpha=low - high).to(cond.dtype)


def unconditional_of(
    settings: GuidanceReuse | None, num_sampling_steps: int, latents: Tensor, branches_in_batch: int | None
) -> UnconditionalOutput | None:
    """Return what rebuilds the unconditional output of a run that begins; None if no step leaves rows out.

    Args:
        settings: the settings; None to leave nothing out.
        num_sampling_steps: n.
        latents: input of the first call [R, …].
        branches_in_batch: number of guidance branches of each video in the batch. Where each branch has calls of its
            own: 0 for the unconditional one, None for the conditional one.

    Raises:
        ValueError: the batch does not hold both branches of each video, whose latents are the same at the first step.
    """
    settings, num_rows = active(settings), len(latents)
    if settings is None or branches_in_batch is None:
        return None
    if branches_in_batch == 0:
        return UnconditionalOutput(settings, num_sampling_steps, num_rows)
    if branches_in_batch != 2 or num_rows % 2 or not torch.equal(*latents.chunk(2)):
        raise ValueError(NO_GUIDANCE)
    return UnconditionalOutput(settings, num_sampling_steps, num_rows // 2)
