"""Mark videos as AI generated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TEXT = "AI generated"
_OPACITY = 0.6


def add_watermark(frames: Tensor) -> Tensor:
    """Return frames [3, F, H, W] in -1..1 with small white text in the lower right corner.

    The text height is a twentieth of the picture's, but the text is never wider than the picture. Very small pictures
    show it truncated.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageDraw, ImageFont

    height, width = frames.shape[-2:]
    size = max(min(height / 20, 1.5 * width / len(TEXT)), 6)
    page = Image.new("L", (width, height))
    draw = ImageDraw.Draw(page)
    margin = size / 2
    draw.text((width - margin, height - margin), TEXT, fill=255, anchor="rs", font=ImageFont.load_default(size))
    opacity = torch.from_numpy(np.array(page)).to(frames) / 255 * _OPACITY
    return frames * (1 - opacity) + opacity
