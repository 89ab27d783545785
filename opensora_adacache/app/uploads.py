"""Uploaded reference images: decoded within limits, and written again as plain pictures."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.app.limits import Limits
from opensora_adacache.errors.family import MediaError
from opensora_adacache.media.files import write_file

if TYPE_CHECKING:
    from PIL.Image import Image

# The decoders that uploads may reach; Pillow knows many more, some for formats that nobody uploads.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


def store_upload(upload: str | Path, folder: str | Path, target: Path, limits: Limits) -> Path:
    """Decode an uploaded image, write it as a png, and return the path of that file.

    Args:
        upload: path of the upload.
        folder: folder that uploads lie in. A path outside of it does not come from an upload, and is not read.
        target: path of the png.
        limits: limits of the app.

    Raises:
        MediaError: it is no upload, too large, or no image. The message names no path.
    """
    path = Path(upload).resolve()
    if not path.is_relative_to(Path(folder).resolve()) or not path.is_file():
        raise MediaError("the reference image was not uploaded: upload a file")
    if path.stat().st_size > limits.upload_bytes:
        raise MediaError(f"the reference image is larger than {limits.upload_bytes / 1e6:g} MB: upload a smaller one")
    picture = BytesIO()
    _decode(path.read_bytes(), limits).save(picture, format="PNG")
    return write_file(target, picture.getbuffer())


def _decode(content: bytes, limits: Limits) -> Image:
    """Return the image as 8-bit RGB. Its size is read before its pixels."""
    from PIL import Image as images
    from PIL.Image import DecompressionBombWarning

    from opensora_adacache.media.pictures import plain_picture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DecompressionBombWarning)  # the limit below is lower
        try:
            with images.open(BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > limits.upload_pixels:
                    raise MediaError(
                        f"it has {image.width}x{image.height} pixels, but at most "
                        f"{limits.upload_pixels / 1e6:g} million are read: upload a smaller one"
                    )
                return plain_picture(image)
        except MediaError as error:
            raise MediaError(f"the reference image cannot be read: {error}") from None
        except Exception:  # Pillow's decoders raise many kinds of errors on broken files
            raise MediaError(
                "the reference image cannot be read: upload a png, jpeg, webp, bmp, gif or tiff file"
            ) from None
