"""Convert decoded video frames to plain RGB pictures: orientation, transparency, pixels that are not square."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from opensora_adacache.errors.family import MediaError
from opensora_adacache.media.pictures import on_ground

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL.Image import Image, Transpose

# Codes of H.273. The primaries of SDR standards differ too little to be seen; wide gamuts and HDR would look wrong.
_WIDE_PRIMARIES = {9: "BT.2020", 11: "P3", 12: "P3"}
_OTHER_CURVES = {8: "linear", 9: "logarithmic", 10: "logarithmic", 16: "PQ", 17: "SMPTE 428", 18: "HLG"}


def check_frame(frame: VideoFrame) -> None:
    """Check that `upright` shows a frame as it is meant.

    Raises:
        MediaError: the frame is damaged, interlaced or turned by some odd angle, or its colours are not those of SDR.
    """
    if frame.is_corrupt:
        raise MediaError("it is damaged or cut off; make or copy it again")
    if frame.interlaced_frame:
        raise MediaError("it is interlaced; convert it with 'ffmpeg -i IN -vf yadif OUT'")
    colours = _OTHER_CURVES.get(frame.color_trc) or _WIDE_PRIMARIES.get(frame.color_primaries)
    if colours:
        raise MediaError(f"its colours are {colours} (HDR or wide gamut); convert it to SDR with BT.709")
    _turn(frame)


def upright(frame: VideoFrame, pixel_aspect: Fraction = Fraction(1)) -> Image:
    """Return a video frame as RGB, rotated by its display matrix, in which phones record their orientation.

    Args:
        frame: a decoded frame.
        pixel_aspect: width of a pixel divided by its height. The shorter side of the pixels is stretched.
    """
    from PIL.Image import Resampling, fromarray

    components = frame.format.components
    if any(component.is_alpha for component in components):
        image = on_ground(fromarray(frame.to_ndarray(format="rgba")))
    elif max(component.bits for component in components) > 8:  # to planes, because to_image() is off by 2 levels
        image = fromarray(frame.to_ndarray(format="gbrp"))
    else:
        image = frame.to_image()
    if pixel_aspect > 1:
        image = image.resize((round(image.width * pixel_aspect), image.height), Resampling.BICUBIC)
    elif pixel_aspect < 1:
        image = image.resize((image.width, round(image.height / pixel_aspect)), Resampling.BICUBIC)
    turn = _turn(frame)
    return image if turn is None else image.transpose(turn)


def _turn(frame: VideoFrame) -> Transpose | None:
    """Return how a frame is turned to be upright, or None if it is."""
    from PIL.Image import Transpose

    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV has no name for other side data of the frame, such as EXIF, but knows the angle
        anticlockwise = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}
        return anticlockwise.get(frame.rotation % 360)
    if matrix is None:
        return None
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
    signs = (_sign(a), _sign(b), _sign(c), _sign(d))
    if signs not in turns:
        raise MediaError("it is turned by an angle that is no multiple of 90 degrees; save it upright")
    return turns[signs]


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
