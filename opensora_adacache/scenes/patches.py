"""Tells the transformer, in the middle of its blocks, what every patch of a clip shows, and in which frame it is.

Scenes are drawn by code, so it is known which object covers a patch, where it is and how it moves. Features that say so
are what the later blocks need to draw it. A transformer that is told learns them sooner than from the velocity alone,
as with the features of an image model in REPA (Yu et al. 2024, arXiv 2410.06940). Used in training only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from opensora_adacache.scenes.place import Scenes
from opensora_adacache.scenes.words import BASE_SIZE, COLOURS, SHAPES

# A patch belongs to an object that is no further than this from its centre, in pixels.
_NEAR = 5.0
# What is measured of an object: offset of its centre, radius, angle as a unit vector, and the changes of position and
# angle until the next kept frame.
NUM_MEASURES = 8
# Only the change of position is measured of the background as well.
_MOVES = slice(5, 7)


@dataclass(frozen=True)
class PatchTargets:
    """What patches show, for clips [N], kept frames [T] and patches [S] in rows.

    Attributes:
        shape: [N, T, S] index into ``SHAPES``; ``len(SHAPES)`` for the background.
        colour: [N, T, S] index into ``COLOURS``, or ``len(COLOURS)``.
        measures: [N, T, S, 8] float32, all of about unit size; for the background, 0 but for the change of position.
    """

    shape: np.ndarray
    colour: np.ndarray
    measures: np.ndarray


def patch_targets(scenes: Scenes, colours: np.ndarray, side: int) -> PatchTargets:
    """Return what the patches of scenes show.

    Args:
        scenes: scenes at their kept frames.
        colours: [N, K] index into ``COLOURS`` of each object.
        side: patches along each side of a frame; there are S = side² of them.
    """
    centres = (np.arange(side) + 0.5) * (BASE_SIZE / side)
    row, column = (axis.reshape(-1) for axis in np.meshgrid(centres, centres, indexing="ij"))
    dx, dy = scenes.x[..., None] - column, scenes.y[..., None] - row  # [N, K, T, S]
    radius = scenes.radius[..., None]
    gap = np.where(radius > 0, np.hypot(dx, dy) - radius, np.inf)
    nearest = gap.argmin(1)[:, None]  # [N, 1, T, S]
    shown = np.take_along_axis(gap, nearest, 1)[:, 0] < _NEAR

    def change(values: np.ndarray) -> np.ndarray:
        steps = np.diff(values, axis=2)
        return np.concatenate([steps, steps[..., -1:]], 2)[..., None]

    angle = scenes.angle[..., None]
    ground = change(scenes.shift.transpose(0, 2, 1)) / 8  # [N, 2, T, 1]
    measures = [
        dx / 16,
        dy / 16,
        radius / 6 - 2,
        np.cos(angle),
        np.sin(angle),
        change(scenes.x) / 8,
        change(scenes.y) / 8,
        change(scenes.angle) * 2,
    ]
    picked = [np.take_along_axis(np.broadcast_to(m, gap.shape), nearest, 1)[:, 0] for m in measures]

    def label(values: np.ndarray, background: int) -> np.ndarray:
        spread = np.broadcast_to(values[..., None, None], gap.shape)
        return np.where(shown, np.take_along_axis(spread, nearest, 1)[:, 0], background)

    measured = np.stack(picked, -1) * shown[..., None]
    measured[..., _MOVES] += ground.transpose(0, 2, 3, 1) * ~shown[..., None]
    return PatchTargets(label(scenes.shape, len(SHAPES)), label(colours, len(COLOURS)), measured.astype(np.float32))


class PatchHeads(nn.Module):
    """Linear heads that predict from the transformer's features [N, T·S, C] what each patch shows, and when.

    Temporal attention knows how far frames are apart, not which of them is the first. To place a turn that begins
    upright, or an orbit that begins at the top, the blocks have to find that out, and without being asked they do not.
    """

    sizes = (len(SHAPES) + 1, len(COLOURS) + 1, NUM_MEASURES, 1)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, sum(self.sizes))

    def forward(self, features: Tensor, shape: Tensor, colour: Tensor, measures: Tensor) -> Tensor:
        """Return the sum of the mean cross-entropies and of the mean errors of what is measured and of the time.

        Args:
            features: [N, T·S, C].
            shape: [N, T, S], and the others as in `PatchTargets`.
            colour: [N, T, S].
            measures: [N, T, S, 8].
        """
        shapes, colours, found, time = self.linear(self.norm(features)).float().flatten(0, 1).split(self.sizes, -1)
        covered = (shape.flatten() < len(SHAPES)).float()
        wrong = functional.smooth_l1_loss(found, measures.flatten(0, 2), reduction="none", beta=0.5)
        wrong_ground = wrong[:, _MOVES].mean(-1) * (1 - covered)
        num_frames = shape.shape[1]
        passed = torch.linspace(-1, 1, num_frames, device=time.device)[:, None].expand_as(shape)
        # A single frame can be any frame of its clip.
        late = functional.mse_loss(time.view(shape.shape), passed) if num_frames > 1 else 0.0
        return (
            functional.cross_entropy(shapes, shape.flatten())
            + functional.cross_entropy(colours, colour.flatten())
            + 4 * (wrong.mean(-1) * covered).mean()
            + wrong_ground.mean()
            + late
        )
