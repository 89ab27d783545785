"""Convert pictures of any kind to plain RGB: more than 8 bits, transparency, EXIF orientation, colour profiles."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from opensora_adacache.errors.family import MediaError

if TYPE_CHECKING:
    from PIL.Image import Image

# Background of transparent pictures.
GROUND = (255, 255, 255)

# What Pillow multiplies grey values of a png by, but not the one that is transparent.
_GREY_STEPS = {"L;2": 85, "L;4": 17}
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339  # tags of a tiff
_SIGNED = 2


def plain_picture(image: Image) -> Image:
    """Return a picture as 8-bit sRGB, upright, with transparent parts on white.

    Pillow's own conversion clips values of more than 8 bits, ignores transparency, showing the colours beneath it, and
    ignores colour profiles.

    Args:
        image: picture that was not loaded yet, because Pillow then forgets how the file stores it. Pillow loads an
            image wrongly that it maps into memory, so it must come from a file object, not a path.

    Raises:
        MediaError: the value range is unknown, so it is unclear which value is white, or Pillow misreads the file.
    """
    from PIL import ImageOps

    _check_pages(image)
    white = _white(image)
    _check_transparency(image)
    image.load()
    # Cameras store pictures unrotated and record the orientation in EXIF, which Pillow would also write anew.
    image.getexif()
    image.info.pop("exif", None)
    image = ImageOps.exif_transpose(image)
    image = _in_srgb(image if white is None else _eight_bits(image, white))
    return on_ground(image) if image.mode == "RGBA" else image


def on_ground(image: Image) -> Image:
    """Return an RGBA picture on white."""
    from PIL import Image as images

    return images.alpha_composite(images.new("RGBA", image.size, (*GROUND, 255)), image).convert("RGB")


def _check_pages(image: Image) -> None:
    if image.format != "TIFF":
        return
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise MediaError(f"it has {pages} pages; save the one to use as png")
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(_BITS, (1,))
    if bits[0] not in (1, 2, 4, 8, 16, 32):
        raise MediaError(f"its values have {bits[0]} bits; save it with 8 or 16 bits")
    if tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED and bits[0] < 32:
        raise MediaError("it has signed integers, whose white is unknown; save it with unsigned ones of 8 or 16 bits")
    # Pillow reads neither of these two right.
    if tags.get(_PHOTOMETRIC) == 0 and bits[0] > 8:
        raise MediaError("it stores white as 0 and has more than 8 bits; save it as png")
    if tags.get(_PLANES) == 2 and len(bits) > 1 and bits[0] > 8:
        raise MediaError("it stores each colour apart and has more than 8 bits; save it as png")


def _white(image: Image) -> int | None:
    """Return the value of white of a picture with more than 8 bits, or None for others."""
    if image.mode == "F":
        return 1
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # there it has 16 bits
        return 65535
    if image.mode == "I":
        raise MediaError("it has 32-bit integers, whose white is unknown; save it with 8 or 16 bits")
    return None


def _check_transparency(image: Image) -> None:
    """Scale the grey level of a png that is transparent as Pillow scales the others."""
    if image.format != "PNG" or "transparency" not in image.info or not image.tile:  # type: ignore[attr-defined]
        return
    stored = str(image.tile[0][3])  # type: ignore[attr-defined]
    if stored.endswith("16B"):
        raise MediaError("it makes a colour of 16 bits transparent; save it with an alpha channel")
    if stored in _GREY_STEPS:
        image.info["transparency"] *= _GREY_STEPS[stored]


def _eight_bits(image: Image, white: int) -> Image:
    """Scale 16-bit grey values, and floating-point ones in 0..1, to 0..255."""
    import numpy as np
    from PIL import Image as images

    values = np.asarray(image).astype(np.float64)
    if not (values.min() >= 0 and values.max() <= white):  # also true for NaN
        given = f"{values.min():g}..{values.max():g}"
        raise MediaError(f"its floating-point values are in {given}, expected 0..1; save it with 8 bits")
    scaled = images.fromarray(np.round(values * (255 / white)).astype(np.uint8))
    scaled.info.update(image.info)
    return scaled


def _in_srgb(image: Image) -> Image:
    """Return a picture of 8 bits as RGB or RGBA, with the colours that its profile or its gamma describes."""
    from PIL import ImageCms

    info, mode = image.info, image.mode
    has_alpha = mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in info
    plain = image.convert("RGBA" if has_alpha else "RGB")
    profile, gamma = info.get("icc_profile"), info.get("gamma")
    if profile:
        try:
            given = ImageCms.ImageCmsProfile(BytesIO(profile))
            space = given.profile.xcolor_space.strip()
            suits = {"GRAY": mode in ("1", "L", "LA"), "CMYK": mode == "CMYK", "RGB": mode != "CMYK"}
            if suits.get(space):
                colours = (image if space == "CMYK" else plain).convert("L" if space == "GRAY" else space)
                shown: Any = ImageCms.profileToProfile(colours, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if has_alpha:
                    shown.putalpha(plain.getchannel("A"))
                return shown
        except (ImageCms.PyCMSError, OSError):  # a broken profile, which viewers ignore too
            pass
    elif gamma and "srgb" not in info and abs(2.2 * gamma - 1) > 0.05:
        curve = [round(255 * (level / 255) ** (1 / (2.2 * gamma))) for level in range(256)]
        return plain.point(curve * 3 + (list(range(256)) if has_alpha else []))
    return plain
