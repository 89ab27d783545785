"""Draws many scenes at once on any device.

Each object is drawn by looking up its outline in a table of signed distances (``outlines.atlas``). The coverage of a
pixel is 0.5 minus the distance of its centre, in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from opensora_adacache.scenes.outlines import TILE, TILE_REACH, atlas
from opensora_adacache.scenes.place import Scenes
from opensora_adacache.scenes.words import BASE_SIZE, TEXTURES


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device; for a GPU, without waiting for its current work."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Renderer:
    """Renders scenes; holds the table of outlines on a device.

    Args:
        device: device to draw on.
        size: height and width in pixels; lengths in scenes scale with it.
    """

    def __init__(self, device: torch.device | str = "cpu", size: int = BASE_SIZE) -> None:
        self.device = torch.device(device)
        self.size = size
        self.scale = size / BASE_SIZE
        fields = torch.from_numpy(atlas()).to(self.device)
        self.num_shapes = len(fields)
        self.table = fields.reshape(1, 1, -1, TILE)
        self.axis = torch.arange(size, device=self.device, dtype=torch.float32) + 0.5

    def __call__(self, scenes: Scenes) -> tuple[Tensor, Tensor]:
        """Draw scenes.

        Returns:
            Pixels [N, F, 3, size, size] in -1..1, and their coverage by objects [N, F, 1, size, size] in 0..1.
        """
        pixels = self._ground(scenes)
        covered = torch.zeros_like(pixels[:, :, :1])
        for slot in reversed(range(scenes.shape.shape[1])):
            alpha = self._coverage(scenes, slot)[:, :, None]
            colour = self._tensor(scenes.colour[:, slot])[:, None, :, None, None]
            pixels = torch.lerp(pixels, colour, alpha)
            covered = torch.maximum(covered, alpha)
        return pixels, covered

    def _tensor(self, values: np.ndarray) -> Tensor:
        return to_device(values.astype(np.float32), self.device)

    def _coverage(self, scenes: Scenes, slot: int) -> Tensor:
        """Return the coverage [N, F, size, size] by one object of each scene."""
        x, y, radius, angle = (
            self._tensor(values[:, slot])[..., None, None]
            for values in (scenes.x, scenes.y, scenes.radius, scenes.angle)
        )
        radius = radius * self.scale
        reach = radius.clamp(min=1e-3) * TILE_REACH
        dx = (self.axis - x * self.scale) / reach
        dy = (self.axis[:, None] - y * self.scale) / reach
        cos, sin = angle.cos(), angle.sin()
        # Convert to tile coordinates. Outside the tile, use the distance at its border, which is positive.
        border = 1 - 1 / TILE
        u = (cos * dx + sin * dy).clamp(-border, border)
        v = (cos * dy - sin * dx).clamp(-border, border)
        tile = self._tensor(scenes.shape[:, slot])[:, None, None, None]
        v = ((v + 1) / 2 + tile) * (2 / self.num_shapes) - 1
        grid = torch.stack([u, v], -1).reshape(1, -1, self.size, 2)
        distance = functional.grid_sample(self.table, grid, mode="bilinear", align_corners=False).reshape(u.shape)
        return (0.5 - distance * radius).clamp(0, 1) * (radius > 0)

    def _ground(self, scenes: Scenes) -> Tensor:
        """Return the background [N, F, 3, size, size]."""
        shift, period = self._tensor(scenes.shift)[..., None, None], self._tensor(scenes.period)[:, None, None, None]
        upright = self._tensor(scenes.upright)[:, None, None, None]
        texture = to_device(scenes.texture, self.device)[:, None, None, None]
        x, y = self.axis[None, None, None] / self.scale, self.axis[None, None, :, None] / self.scale
        u, v = (x - shift[:, :, 0]) / period, (y - shift[:, :, 1]) / period
        # Signed distances in pixels, positive in the dark half of each period.
        across, along = (((0.25 - (w - w.floor() - 0.5).abs()) * period * self.scale) for w in (u, v))
        columns, rows = (0.5 + across).clamp(0, 1), (0.5 + along).clamp(0, 1)
        dot = torch.hypot(u - u.floor() - 0.5, v - v.floor() - 0.5)
        # The phase is random, so use it for the sign of a gradient.
        rising = (shift[:, :1, 0] > BASE_SIZE / 2).float()
        slope = torch.lerp(y.expand(-1, -1, -1, self.size), x.expand(-1, -1, self.size, -1), upright) / BASE_SIZE
        amounts = {
            "graded": torch.lerp(1 - slope, slope, rising),
            "striped": torch.lerp(rows, columns, upright),
            "checkered": columns + rows - 2 * columns * rows,
            "dotted": (0.5 - (dot - 0.27) * period * self.scale).clamp(0, 1),
        }
        amount = torch.zeros_like(u + v)
        for name, values in amounts.items():
            amount = torch.where(texture == TEXTURES.index(name), values, amount)
        tones = self._tensor(scenes.tones)[:, :, None, :, None, None]
        return torch.lerp(tones[:, 0], tones[:, 1], amount[:, :, None])
