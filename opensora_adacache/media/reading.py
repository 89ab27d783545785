"""Read images and videos, as references at a given size or as they are.

Pictures are float32 tensors [3, F, H, W] in -1..1: F frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


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


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
