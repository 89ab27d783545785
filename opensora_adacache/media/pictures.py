"""Convert pictures of any kind to plain RGB: 16 bits, floating point, transparency, EXIF orientation."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from opensora_adacache.errors.family import MediaError

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL.Image import Image

# Background of transparent pictures.
GROUND = (255, 255, 255)


def plain_picture(image: Image) -> Image:
    """Return a picture as 8-bit RGB, upright, with transparent parts on white.

    Pillow's own conversion clips values of more than 8 bits, and ignores transparency, showing the colours beneath it.

    Raises:
        MediaError: the value range is unknown, so it is unclear which value is white.
    """
    from PIL import ImageOps

    image = _eight_bits(image)
    # Cameras store pictures unrotated and record the orientation in EXIF, which Pillow would also write anew.
    image.getexif()
    image.info.pop("exif", None)
    image = ImageOps.exif_transpose(image)
    has_alpha = image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info
    return _on_ground(image.convert("RGBA")) if has_alpha else image.convert("RGB")


def _on_ground(image: Image) -> Image:
    from PIL import Image as images

    return images.alpha_composite(images.new("RGBA", image.size, (*GROUND, 255)), image).convert("RGB")


def _eight_bits(image: Image) -> Image:
    """Scale 16-bit grey values, and floating-point ones in 0..1, to 0..255."""
    import numpy as np
    from PIL import Image as images

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        if not (values.min() >= 0 and values.max() <= 1):  # also true for NaN
            given = f"{values.min():g}..{values.max():g}"
            raise MediaError(f"its floating-point values are in {given}, expected 0..1; save it with 8 bits")
        levels = values * 255
    elif image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):  # there "I" has 16 bits
        levels = values / 257
    else:
        raise MediaError("it has 32-bit integers, whose white is unknown; save it with 8 or 16 bits")
    scaled = images.fromarray(np.round(levels).astype(np.uint8))
    orientation = image.getexif().get(0x0112)
    if orientation is not None:
        scaled.getexif()[0x0112] = orientation
    return scaled


def upright(frame: VideoFrame) -> Image:
    """Return a video frame as RGB, rotated by its display matrix, in which phones record their orientation."""
    from PIL.Image import Transpose, fromarray

    if any(component.is_alpha for component in frame.format.components):
        image = _on_ground(fromarray(frame.to_ndarray(format="rgba")))
    else:
        image = frame.to_image()
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV has no name for other side data of the frame, such as EXIF, but knows the angle
        anticlockwise = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}
        by_angle = anticlockwise.get(frame.rotation % 360)
        return image if by_angle is None else image.transpose(by_angle)
    if matrix is None:
        return image
    # A point (x, y) of the picture appears at (a·x + c·y, b·x + d·y), with y downwards; see ISO/IEC 14496-12, 8.2.2.
    a, b, _, c, d = struct.unpack("<5i", bytes(matrix)[:20])
    turns = {
        (1, 0, 0, 1): None,
        (-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT,
        (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
        (-1, 0, 0, -1): Transpose.ROTATE_180,
        (0, 1, 1, 0): Transpose.TRANSPOSE,
        (0, 1, -1, 0): Transpose.ROTATE_270,  # Pillow turns anticlockwise
        (0, -1, 1, 0): Transpose.ROTATE_90,
        (0, -1, -1, 0): Transpose.TRANSVERSE,
    }
    turn = turns.get((_sign(a), _sign(b), _sign(c), _sign(d)))
    return image if turn is None else image.transpose(turn)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
