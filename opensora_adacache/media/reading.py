"""Read images and videos, either as references at a given size or at their own size.

Pictures are float32 tensors [3, F, H, W] in -1..1: F frames, H rows, W columns. Videos are decoded frame by frame, and
only requested frames are kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.errors.family import MediaError, MissingFileError
from opensora_adacache.errors.shown import one_line

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL.Image import Image
    from torch import Tensor

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")


def read_reference(path: str | Path, image_size: tuple[int, int]) -> Tensor:
    """Read an image (F = 1) or a video as [3, F, H, W] in -1..1 at `image_size` (H, W).

    Each frame is rotated upright, resized (bicubic, same factor in both directions) to cover the size, and cropped
    around its centre. Transparent parts become white. The reference implementation resizes video frames bilinearly;
    here images and videos are treated alike.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the suffix is unknown or the file cannot be decoded.
    """
    return _to_tensor(_resize_to_cover(make(), image_size) for make in _open_reference(path))


def read_chunks(
    path: str | Path, image_size: tuple[int, int], length: int, wanted: Collection[int]
) -> Iterator[tuple[int, Tensor | None]]:
    """Read a reference in chunks of `length` frames, one at a time in memory, up to the last one in `wanted`.

    Args:
        path: path of an image or a video.
        image_size: see `read_reference`, which also lists the errors.
        length: number of frames per chunk. The last chunk can be shorter.
        wanted: numbers of the chunks to return, from 0.

    Yields:
        The number of frames of each chunk, and the frames [3, F, H, W] of chunks in `wanted` (else None).
    """
    stop = (max(wanted) + 1) * length
    pictures = iter(_open_reference(path, stop))
    for chunk in count():
        images = [
            _resize_to_cover(make(), image_size) if chunk in wanted else None for make in islice(pictures, length)
        ]
        if images:
            yield len(images), _to_tensor(filter(None, images)) if chunk in wanted else None
        if len(images) < length:
            return


def check_reference(path: str | Path, stop: int | None = None) -> None:
    """Decode a reference up to frame `stop` without keeping anything. Raises the errors of `read_reference`."""
    count_frames(path, stop)


def count_frames(path: str | Path, stop: int | None = None) -> int:
    """Return the number of frames of a reference, up to `stop`.

    The frames are decoded to count them, because metadata can be wrong, and some formats have none.
    """
    return sum(1 for _ in _open_reference(path, stop))


def read_video(path: str | Path) -> Tensor:
    """Read all frames of a video as [3, F, H, W] in -1..1 at their own size.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the file cannot be decoded as a video, or it is truncated: a file with its index in front can end
            after any frame and still be readable.
    """
    from opensora_adacache.media.pictures import upright

    return _to_tensor(upright(frame) for frame in _decode(_existing(path, "video"), whole=True))


def read_spread(path: str | Path, count: int) -> list[Image]:
    """Return at most `count` frames of a video, evenly spaced from the first to the last, or the picture of an image.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the file cannot be decoded.
    """
    from opensora_adacache.media.pictures import upright

    path = _existing(path, "video")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [_read_image(path)]
    # Decoded twice, because all frames of a long video would not fit into memory.
    wanted = set(spread(sum(1 for _ in _decode(path)), count))
    return [upright(frame) for index, frame in enumerate(_decode(path)) if index in wanted]


def spread(total: int, count: int) -> list[int]:
    """Return at most `count` of the first `total` numbers, evenly spaced from the first to the last.

    >>> spread(17, 5), spread(2, 5), spread(9, 1)
    ([0, 4, 8, 12, 16], [0, 1], [4])
    """
    if count == 1:
        return [total // 2]
    count = min(total, count)
    return [round(index * (total - 1) / max(count - 1, 1)) for index in range(count)]


def _open_reference(path: str | Path, stop: int | None = None) -> Iterator[Callable[[], Image]]:
    """Yield for each frame a function that converts it to a picture, which costs more than decoding it."""
    from opensora_adacache.media.pictures import upright

    path = _existing(path, "reference")
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        raise MediaError(
            f"reference '{path}' has suffix '{path.suffix}'; expected an image ({' '.join(IMAGE_SUFFIXES)}) "
            f"or a video ({' '.join(VIDEO_SUFFIXES)})"
        )
    if suffix in IMAGE_SUFFIXES:
        image = _read_image(path)
        yield lambda: image
    else:
        for frame in _decode(path, stop):
            yield partial(upright, frame)


def _existing(path: str | Path, kind: str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{kind} '{path}' does not exist; pass the path of a local file")
    return path


def _read_image(path: Path) -> Image:
    from PIL import Image

    from opensora_adacache.media.pictures import plain_picture

    try:
        with Image.open(path) as image:
            return plain_picture(image)
    except MediaError as error:
        raise MediaError(f"image '{path}' cannot be read: {error}") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise MediaError(f"image '{path}' has more than {most} pixels; save it again at a smaller size") from None
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error) as error:
        raise MediaError(f"image '{path}' cannot be read: {one_line(error)}; save it again as png") from None


def _decode(path: Path, stop: int | None = None, whole: bool = False) -> Iterator[VideoFrame]:
    """Yield the frames of a video one at a time, up to `stop`.

    With `whole`, raise MediaError if there are fewer frames than the file lists.
    """
    import av

    num_frames = num_listed = 0
    try:
        with av.open(str(path)) as container:
            if container.streams.video:
                num_listed = container.streams.video[0].frames  # 0 in formats without this field
                for frame in islice(container.decode(video=0), stop):
                    num_frames += 1
                    yield frame
    except av.FFmpegError as error:
        reason = one_line(error.strerror or error)
        raise MediaError(f"video '{path}' cannot be read: {reason}; save it again as mp4") from None
    if not num_frames:
        raise MediaError(f"video '{path}' holds no frames; save it again as mp4")
    if whole and num_frames < num_listed:
        raise MediaError(f"video '{path}' was cut off: it holds {num_frames} of its {num_listed} frames; make it again")


def _resize_to_cover(image: Image, image_size: tuple[int, int]) -> Image:
    """Resize (bicubic, keeping proportions) to cover (H, W), then crop around the centre."""
    from PIL import Image

    height, width = image_size
    factor = max(height / image.height, width / image.width)
    # max() ensures that rounding does not leave a side one pixel short.
    covering = max(width, round(image.width * factor)), max(height, round(image.height * factor))
    left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
    resized = image.resize(covering, Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + width, top + height))


def _to_tensor(images: Iterable[Image]) -> Tensor:
    """Stack RGB pictures of the same size into [3, F, H, W] in -1..1."""
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return pixels.permute(3, 0, 1, 2).float().div(127.5).sub(1).contiguous()
