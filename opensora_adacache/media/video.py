"""Read references and videos, write videos (h264 mp4) and images (png).

Pictures are float32 tensors [3, F, H, W] in -1..1: F frames, H rows, W columns. Files are written under a
temporary name in their own folder and renamed when they are complete, so a file that exists is whole.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")

# crf runs from 0 (lossless) to 51; 18 looks lossless to most eyes. x264's output depends on the number of
# threads, so it is fixed, and on processors with AVX-512 its macroblock tree gives small clips another file each time,
# so it is off: the same frames give the same file.
_X264_OPTIONS = {"crf": "18", "threads": "4", "x264-params": "mbtree=0"}
_BT709 = 1  # code of H.273 for matrix, primaries and transfer; swscale's code for the matrix is the same
_LIMITED_RANGE = 1


def read_reference(path: str | Path, image_size: tuple[int, int]) -> Tensor:
    """Read an image (F = 1) or a video as [3, F, H, W] in -1..1 at `image_size` (H, W).

    Each frame is resized (bicubic, same factor in both directions) until it covers the size, then cropped
    around its centre. The reference resizes the frames of videos bilinearly; here images and videos are
    treated alike.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the suffix is unknown or the file cannot be decoded.
    """
    path = _existing(path, "reference")
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        raise ValueError(
            f"reference '{path}' has suffix '{path.suffix}'; expected an image ({' '.join(IMAGE_SUFFIXES)}) "
            f"or a video ({' '.join(VIDEO_SUFFIXES)})"
        )
    frames = [_read_image(path)] if suffix in IMAGE_SUFFIXES else _decode(path)
    return _to_tensor(_resize_to_cover(frame, image_size) for frame in frames)


def read_video(path: str | Path) -> Tensor:
    """Read all frames of a video as [3, F, H, W] in -1..1 at their own size.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be decoded as a video, or was cut off: a file that lists its frames first may
            end after any of them and still be readable.
    """
    return _to_tensor(_decode(_existing(path, "video"), whole=True))


def write_video(path: str | Path, frames: Tensor, fps: float) -> Path:
    """Write [3, F, H, W] in -1..1 (values beyond are clamped) as an h264 mp4 with `fps` frames per second.

    Colours are stored as yuv420p, which every player reads; it needs even sizes, so an odd last row or column
    is repeated once. The folder is made if it is missing.

    Raises:
        ValueError: the shape is no video, or `fps` is not positive.
        OSError: the folder is not writable or the disk is full; nothing half-written is left behind.
    """
    import av
    import numpy as np

    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    pixels = _to_pixels(frames)
    pixels = np.pad(pixels, [(0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)], mode="edge")
    # Encoding into memory first leaves one plain write that can fail.
    encoded = io.BytesIO()
    with av.open(encoded, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=_X264_OPTIONS)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Untagged files are shown with different colours by different players.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        for picture in pixels:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=_BT709)))
        container.mux(stream.encode(None))
    return write_file(path, encoded.getbuffer())


def write_image(path: str | Path, frame: Tensor) -> Path:
    """Write [3, H, W] or [3, 1, H, W] in -1..1 (values beyond are clamped) as a png.

    Raises:
        ValueError: the shape is no single picture.
        OSError: the folder is not writable or the disk is full; nothing half-written is left behind.
    """
    from PIL import Image

    pixels = _to_pixels(frame[:, None] if frame.ndim == 3 else frame)
    if len(pixels) != 1:
        raise ValueError(f"expected one frame for '{path}', got {len(pixels)}; write it as a video")
    encoded = io.BytesIO()
    Image.fromarray(pixels[0]).save(encoded, format="PNG")
    return write_file(path, encoded.getbuffer())


def write_file(path: str | Path, data: bytes | memoryview) -> Path:
    """Write `data` to `path`, whole or not at all: under a temporary name in the same folder, then renamed.

    A file that was there before stays as it is if writing fails. The folder is made if it is missing.

    Raises:
        OSError: the folder is not writable, the disk is full, or the name is too long for the file system.
    """
    path = Path(path)
    # Not derived from the name: that may be a prompt and as long as the file system allows.
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot write '{path}': {error.strerror or error}; free the disk or choose another folder"
        ) from None
    return path


def _existing(path: str | Path, kind: str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{kind} '{path}' does not exist; pass the path of a local file")
    return path


def _read_image(path: Path) -> Image:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # Cameras store pictures lying down and note how to turn them.
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image '{path}' cannot be read: {_one_line(error)}; save it again as png") from None


def _decode(path: Path, whole: bool = False) -> Iterator[Image]:
    """Yield the frames of a video, one at a time; with `whole`, as many as the file says it has or raise ValueError."""
    import av

    num_frames = num_listed = 0
    try:
        with av.open(str(path)) as container:
            if container.streams.video:
                num_listed = container.streams.video[0].frames  # 0 in formats that do not say
                for frame in container.decode(video=0):
                    num_frames += 1
                    yield frame.to_image()
    except av.FFmpegError as error:
        reason = _one_line(error.strerror or error)
        raise ValueError(f"video '{path}' cannot be read: {reason}; save it again as mp4") from None
    if not num_frames:
        raise ValueError(f"video '{path}' holds no frames; save it again as mp4")
    if whole and num_frames < num_listed:
        raise ValueError(f"video '{path}' was cut off: it holds {num_frames} of its {num_listed} frames; make it again")


def _resize_to_cover(image: Image, image_size: tuple[int, int]) -> Image:
    """Resize (bicubic, keeping proportions) to cover (H, W), then crop around the centre."""
    from PIL import Image

    height, width = image_size
    factor = max(height / image.height, width / image.width)
    # max() guards against a side that rounds to one pixel less than it must cover.
    covering = max(width, round(image.width * factor)), max(height, round(image.height * factor))
    left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
    resized = image.resize(covering, Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + width, top + height))


def _to_tensor(images: Iterable[Image]) -> Tensor:
    """Stack RGB pictures of one size into [3, F, H, W] in -1..1."""
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return pixels.permute(3, 0, 1, 2).float().div(127.5).sub(1).contiguous()


def _to_pixels(frames: Tensor) -> Any:
    """Turn [3, F, H, W] in -1..1 into a uint8 array [F, H, W, 3]."""
    import torch

    if frames.ndim != 4 or frames.shape[0] != 3 or 0 in frames.shape:
        raise ValueError(f"expected frames [3, F, H, W] with F, H, W of at least 1, got {list(frames.shape)}")
    levels = frames.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return levels.to("cpu", torch.uint8).permute(1, 2, 3, 0).contiguous().numpy()


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
