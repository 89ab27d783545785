"""Write videos (h264 mp4) and images (png).

Pictures are float32 tensors [3, F, H, W] in -1..1: F frames, H rows, W columns. Files are written atomically
(`media.files.write_file`).
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from opensora_adacache.errors.family import MediaError
from opensora_adacache.media.files import write_file

if TYPE_CHECKING:
    from torch import Tensor

# An mp4 stores time in integer fractions of a second.
SLOWEST, FASTEST = 0.01, 1000

# crf ranges from 0 (lossless) to 51; 18 is visually lossless for most viewers. The same frames must give the same
# file: the number of threads is fixed because x264's output depends on it, and the macroblock tree is off because with
# AVX-512 it encodes small clips differently each time.
_X264_OPTIONS = {"crf": "18", "threads": "4", "x264-params": "mbtree=0"}
# Browsers and players can start such a file before it is fully loaded.
_INDEX_FIRST = {"movflags": "faststart"}
_BT709 = 1  # code of H.273 for matrix, primaries and transfer; swscale's code for the matrix is the same
_LIMITED_RANGE = 1


def write_video(path: str | Path, frames: Tensor, fps: float) -> Path:
    """Write [3, F, H, W] in -1..1 as an mp4 (see `encode_video`). A missing folder is created.

    Raises:
        MediaError: the shape is not that of a video, or `fps` is outside 0.01..1000.
        WriteError: the folder is not writable or the disk is full. No incomplete file remains.
    """
    return write_file(path, encode_video(frames, fps))


def encode_video(frames: Tensor, fps: float) -> memoryview:
    """Return [3, F, H, W] in -1..1 (other values are clamped) as an h264 mp4 with `fps` frames per second.

    Colours are stored as yuv420p, which every player supports. It needs even sizes, so the last row or column of an
    odd size is repeated once.

    Raises:
        MediaError: the shape is not that of a video, or `fps` is outside 0.01..1000.
    """
    import av
    import numpy as np

    if not SLOWEST <= fps <= FASTEST:
        raise MediaError(f"fps must lie in {SLOWEST}..{FASTEST}, got {fps}")
    pixels = _to_pixels(frames)
    pixels = np.pad(pixels, [(0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)], mode="edge")
    # Encoding into memory first leaves a single write that can fail.
    encoded = io.BytesIO()
    # The writer reads its own output again to move the index to the front.
    read_again = lambda *_: io.BytesIO(encoded.getvalue())  # noqa: E731
    with av.open(encoded, "w", format="mp4", options=_INDEX_FIRST, io_open=read_again) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=_X264_OPTIONS)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Players show untagged files in different colours.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        for picture in pixels:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=_BT709)))
        container.mux(stream.encode(None))
    return encoded.getbuffer()


def write_image(path: str | Path, frame: Tensor) -> Path:
    """Write [3, H, W] or [3, 1, H, W] in -1..1 (other values are clamped) as a png.

    Raises:
        MediaError: the shape is not that of a single picture.
        WriteError: the folder is not writable or the disk is full. No incomplete file remains.
    """
    return write_file(path, encode_image(frame))


def encode_image(frame: Tensor, kind: Literal["PNG", "JPEG"] = "PNG") -> memoryview:
    """Return [3, H, W] or [3, 1, H, W] in -1..1 (other values are clamped) as a png or jpeg.

    Raises:
        MediaError: the shape is not that of a single picture.
    """
    from PIL import Image

    pixels = _to_pixels(frame[:, None] if frame.ndim == 3 else frame)
    if len(pixels) != 1:
        raise MediaError(f"expected one frame for an image, got {len(pixels)}; write it as a video")
    encoded = io.BytesIO()
    Image.fromarray(pixels[0]).save(encoded, format=kind, quality=90)  # the quality is that of a jpeg
    return encoded.getbuffer()


def _to_pixels(frames: Tensor) -> Any:
    """Turn [3, F, H, W] in -1..1 into a uint8 array [F, H, W, 3]."""
    import torch

    if frames.ndim != 4 or frames.shape[0] != 3 or 0 in frames.shape:
        raise MediaError(f"expected frames [3, F, H, W] with F, H, W of at least 1, got {list(frames.shape)}")
    levels = frames.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return levels.to("cpu", torch.uint8).permute(1, 2, 3, 0).contiguous().numpy()
