"""Read images and videos, either as references at a given size or at their own size.

Pictures are float32 tensors [3, F, H, W] in -1..1: F frames, H rows, W columns. Videos are decoded frame by frame, and
only requested frames are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from fractions import Fraction
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.errors.family import MediaError, MissingFileError
from opensora_adacache.errors.shown import one_line

if TYPE_CHECKING:
    from av import VideoCodecContext, VideoStream
    from PIL.Image import Image
    from torch import Tensor

# The decoders that files of these names may reach; Pillow knows many more, some for formats that run other programs.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
_ANIMATED = ("GIF", "PNG", "WEBP")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")


def read_reference(path: str | Path, image_size: tuple[int, int]) -> Tensor:
    """Read an image (F = 1), an animated one or a video as [3, F, H, W] in -1..1 at `image_size` (H, W).

    Each frame is rotated upright, resized (bicubic, same factor in both directions) to cover the size, and cropped
    around its centre. Transparent parts become white, and colours are those of sRGB. The reference implementation
    resizes video frames bilinearly; here images and videos are treated alike.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the suffix is unknown, or the file cannot be decoded, is damaged, or needs a conversion that is not
            ours to choose: interlaced or HDR video, pages of a tiff, numbers whose white is unknown.
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


def count_frames(path: str | Path, stop: int | None = None) -> int:
    """Return the number of frames of a reference, up to `stop`. Raises the errors of `read_reference`.

    The frames are decoded to count them, because metadata can be wrong, and some formats have none. None is kept.
    """
    return sum(1 for _ in _open_reference(path, stop))


def read_video(path: str | Path) -> Tensor:
    """Read all frames of a video as [3, F, H, W] in -1..1 at their own size.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the file cannot be decoded as a video, or it is truncated: a file with its index in front can end
            after any frame and still be readable.
    """
    return _to_tensor(make() for make in _decode(_existing(path, "video")))


def read_spread(path: str | Path, count: int) -> list[Image]:
    """Return at most `count` frames of a video, evenly spaced from the first to the last, or the picture of an image.

    Raises:
        MissingFileError: there is no such file.
        MediaError: the file cannot be decoded.
    """
    path = _existing(path, "video")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return list(islice(_read_images(path), 1))
    # Decoded twice, because all frames of a long video would not fit into memory.
    wanted = set(spread(sum(1 for _ in _decode(path)), count))
    return [make() for index, make in enumerate(_decode(path)) if index in wanted]


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
    path = _existing(path, "reference")
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        raise MediaError(
            f"reference '{path}' has suffix '{path.suffix}'; expected an image ({' '.join(IMAGE_SUFFIXES)}) "
            f"or a video ({' '.join(VIDEO_SUFFIXES)})"
        )
    if suffix in (*IMAGE_SUFFIXES, ".gif"):
        for image in islice(_read_images(path), stop):
            yield image.copy
    else:
        yield from islice(_decode(path), stop)


def _existing(path: str | Path, kind: str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{kind} '{path}' does not exist; pass the path of a local file")
    return path


def _read_images(path: Path) -> Iterator[Image]:
    """Yield the picture of an image, or the frames of an animated gif, png or webp."""
    from PIL import Image, UnidentifiedImageError

    from opensora_adacache.media.pictures import plain_picture

    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            frames = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
            if frames == 1:
                yield plain_picture(image)
                return
            # The first picture of an animated png can be one for viewers that do not animate it.
            for number in range(1 if image.info.get("default_image") else 0, frames):
                image.seek(number)
                yield plain_picture(image.copy())
    except MediaError as error:
        raise MediaError(f"image '{path}' cannot be read: {error}") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise MediaError(f"image '{path}' has more than {most} pixels; save it again at a smaller size") from None
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS[:-1]).lower()
        expected = f"a common kind of {kinds} or {FORMATS[-1].lower()}"
        raise MediaError(f"image '{path}' cannot be read: it is not {expected}; save it again as png") from None
    except Exception as error:  # Pillow's decoders raise many kinds of errors on broken files
        raise MediaError(f"image '{path}' cannot be read: {one_line(error)}; save it again as png") from None


def _decode(path: Path) -> Iterator[Callable[[], Image]]:
    """Yield for each frame of a video a function that converts it to a picture."""
    import av

    from opensora_adacache.media.frames import check_frame, upright

    num_frames = num_packets = num_listed = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")  # not a cover picture
            if isinstance(stream, av.VideoStream):
                num_listed = min(stream.frames, len(stream.index_entries))  # 0 in formats without an index
                pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
                decoder = _decoder(stream)
                for packet in container.demux(stream):
                    num_packets += packet.dts is not None or packet.size > 0  # not the last one, which is empty
                    for frame in decoder.decode(packet):
                        check_frame(frame)
                        num_frames += 1
                        yield partial(upright, frame, pixel_aspect)
    except MediaError as error:
        raise MediaError(f"video '{path}' cannot be read: {error}") from None
    except av.FFmpegError as error:
        reason = one_line(error.strerror or error)
        raise MediaError(f"video '{path}' cannot be read: {reason}; save it again as mp4") from None
    if not num_frames:
        raise MediaError(f"video '{path}' holds no frames; save it again as mp4")
    if _misses_bytes(path):
        raise MediaError(f"video '{path}' was cut off after {num_frames} frames; make or copy it again")
    if num_packets < num_listed:
        raise MediaError(
            f"video '{path}' was cut off: it holds {num_packets} of its {num_listed} frames; make it again"
        )


def _misses_bytes(path: Path) -> bool:
    """Return whether a Matroska file is shorter than its header says, which FFmpeg takes for its end."""
    if path.suffix.lower() not in (".mkv", ".webm"):
        return False
    with path.open("rb") as file:
        _, segment, rest = file.read(4096).partition(b"\x18\x53\x80\x67")
        if not segment:
            return False
        # The zeros before the first one of the size tell its length; all ones mean that it is unknown.
        length = 9 - rest[0].bit_length()
        unknown = (1 << 7 * length) - 1
        size = int.from_bytes(rest[:length], "big") & unknown
        start = file.tell() - len(rest) + length
        return size != unknown and file.seek(0, os.SEEK_END) < start + size


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """Return the decoder of a stream. FFmpeg's own ones of VP8 and VP9 ignore transparency."""
    import av

    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    return av.CodecContext.create(name, "r")  # type: ignore[return-value]


def _resize_to_cover(image: Image, image_size: tuple[int, int]) -> Image:
    """Resize (bicubic, keeping proportions) to cover (H, W), and crop around the centre."""
    from PIL import Image

    height, width = image_size
    factor = max(height / image.height, width / image.width)
    # max() ensures that rounding does not leave a side one pixel short.
    covering = max(width, round(image.width * factor)), max(height, round(image.height * factor))
    left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
    # What is cropped is not resized: of a picture of 1x5000 pixels that would be gigabytes.
    scale_x, scale_y = image.width / covering[0], image.height / covering[1]
    box = (left * scale_x, top * scale_y, (left + width) * scale_x, (top + height) * scale_y)
    return image.resize((width, height), Image.Resampling.BICUBIC, box)


def _to_tensor(images: Iterable[Image]) -> Tensor:
    """Stack RGB pictures of the same size into [3, F, H, W] in -1..1."""
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return pixels.permute(3, 0, 1, 2).float().div(127.5).sub(1).contiguous()
