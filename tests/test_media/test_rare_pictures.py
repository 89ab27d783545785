"""Pictures that Pillow reads wrongly or in part unless told otherwise: each is read right, or refused in one line."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from opensora_adacache.errors.family import MediaError
from opensora_adacache.media.reading import count_frames, read_reference

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(path, size):
    """The levels 0..255 of the first frame [H, W, 3]."""
    return ((read_reference(path, size)[:, 0].permute(1, 2, 0) + 1) * 127.5).round().int().numpy()


def write_tiff(path, strips, bits=8, photometric=1, num_colours=1, signed=1, planes=1, orientation=1, pages=1):
    """Write a tiff of 4x2 pixels that Pillow cannot write."""
    tags = [(256, [4]), (257, [2]), (258, [bits] * num_colours), (259, [1]), (262, [photometric])]
    tags += [(273, [0] * len(strips)), (274, [orientation]), (277, [num_colours]), (278, [2])]
    tags += [(279, [len(strip) for strip in strips]), (284, [planes]), (339, [signed] * num_colours)]
    size = 2 + 12 * len(tags) + 4
    data = b"II*\0\x08\0\0\0"
    for page in range(pages):
        outside, start = b"", len(data)
        offsets = np.cumsum([start + size + 200, *map(len, strips)])[:-1]
        entries = struct.pack("<H", len(tags))
        for tag, values in tags:
            packed = np.array(offsets if tag == 273 else values, "<u2").tobytes()
            if len(packed) > 4:
                packed, outside = struct.pack("<I", start + size + len(outside)), outside + packed
            entries += struct.pack("<HHI4s", tag, 3, len(values), packed)
        following = start + size + 200 + sum(map(len, strips)) if page < pages - 1 else 0
        data += entries + struct.pack("<I", following) + outside.ljust(200, b"\0") + b"".join(strips)
    path.write_bytes(data)
    return path


LEVELS = np.array([[0, 60, 120, 180], [240, 20, 40, 255]], np.uint8)
DEEP = (LEVELS.astype(np.uint16) * 257).tobytes()


@pytest.mark.parametrize(
    ("reason", "strips", "options"),
    [
        ("white as 0 and has more than 8 bits", [DEEP], {"bits": 16, "photometric": 0}),
        ("values have 12 bits", [bytes(12)], {"bits": 12}),
        ("signed integers", [LEVELS.tobytes()], {"signed": 2}),
        ("signed integers", [DEEP], {"bits": 16, "signed": 2}),
        ("each colour apart", [DEEP] * 3, {"bits": 16, "photometric": 2, "num_colours": 3, "planes": 2}),
        ("has 2 pages; save the one to use", [LEVELS.tobytes()], {"pages": 2}),
        ("not a common kind of png, .* or gif; save it again as png", [bytes(8)], {"bits": 24}),
    ],
)
def test_tiffs_that_pillow_misreads(tmp_path, reason, strips, options):
    with pytest.raises(MediaError, match=rf"a.tif' cannot be read: .*{reason}") as caught:
        read_reference(write_tiff(tmp_path / "a.tif", strips, **options), (2, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("options", "strips"), [({}, [LEVELS.tobytes()]), ({"bits": 16}, [DEEP])])
def test_a_tiff_on_its_side(tmp_path, strips, options):
    """Pillow scrambles one that it maps into memory."""
    path = write_tiff(tmp_path / "a.tif", strips, orientation=6, **options)
    assert (pixels(path, (4, 2))[..., 0] == np.rot90(LEVELS, -1)).all()


def write_png(path, bits, kind, rows, **chunks):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 4, len(rows), bits, kind, 0, 0, 0)
    extra = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    content = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b""))
    return path


def test_a_transparent_grey_of_two_bits(tmp_path):
    path = write_png(tmp_path / "a.png", 2, 0, [bytes([0b00011011])] * 4, tRNS=struct.pack(">H", 1))
    assert pixels(path, (4, 4))[0, :, 0].tolist() == [0, 255, 170, 255]


@pytest.mark.parametrize(("kind", "values"), [(0, 1), (2, 3)])
def test_a_transparent_colour_of_16_bits_is_refused(tmp_path, kind, values):
    rows = [np.full(4 * values, 300, ">u2").tobytes()]
    path = write_png(tmp_path / "a.png", 16, kind, rows, tRNS=struct.pack(f">{values}H", *[300] * values))
    with pytest.raises(MediaError, match="makes a colour of 16 bits transparent; save it with an alpha channel"):
        read_reference(path, (4, 4))


def test_gamma(tmp_path):
    rows = [bytes([0, 55, 188, 255])] * 4
    linear = write_png(tmp_path / "linear.png", 8, 0, rows, gAMA=struct.pack(">I", 100_000))
    assert pixels(linear, (4, 4))[0, :, 0].tolist() == [0, 127, 222, 255]
    usual = write_png(tmp_path / "usual.png", 8, 0, rows, gAMA=struct.pack(">I", 45_455))
    assert pixels(usual, (4, 4))[0, :, 0].tolist() == [0, 55, 188, 255]


def swapped_profile():
    """A profile whose red is green and whose green is red."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"____").replace(b"gXYZ", b"rXYZ").replace(b"____", b"gXYZ")


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB"), ("a.png", "RGBA"), ("a.tif", "RGB"), ("a.png", "P")])
def test_colour_profiles(tmp_path, name, mode):
    picture = Image.new("RGBA", (4, 4), (*RED, 255))
    picture.paste((0, 0, 0, 0), (2, 0, 4, 4))
    picture.convert(mode).save(tmp_path / name, icc_profile=swapped_profile())
    found = pixels(tmp_path / name, (4, 4))
    assert np.abs(found[0, 0] - GREEN).max() <= 2
    assert np.abs(found[0, 3] - ((0, 0, 0) if mode == "RGB" else WHITE)).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_profile_that_does_not_fit_is_ignored(tmp_path, mode):
    picture = Image.new(mode, (4, 4), (255, 0, 0) if mode == "RGB" else (0, 255, 255, 0))
    picture.save(tmp_path / "a.tif", icc_profile=b"no profile" if mode == "RGB" else swapped_profile())
    assert pixels(tmp_path / "a.tif", (4, 4))[0, 0].tolist() == list(RED)


ANIMATION = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.png", {}, [RED, GREEN, BLUE]),
        ("a.png", {"default_image": True}, [GREEN, BLUE]),
        ("a.webp", {"lossless": True}, [RED, GREEN, BLUE]),
        ("a.gif", {}, [RED, GREEN, BLUE]),
        ("gif.png", {"format": "GIF"}, [RED, GREEN, BLUE]),
    ],
)
def test_animations_are_videos(tmp_path, name, options, expected):
    ANIMATION[0].save(tmp_path / name, save_all=True, append_images=ANIMATION[1:], **options)
    frames = read_reference(tmp_path / name, (8, 8))
    assert ((frames[:, :, 4, 4].T + 1) * 127.5).round().int().tolist() == [list(colour) for colour in expected]
    assert count_frames(tmp_path / name, 1) == 1


def test_a_gif_that_was_cut_off(tmp_path):
    Image.effect_noise((64, 64), 90).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").write_bytes((tmp_path / "a.gif").read_bytes()[:2000])
    with pytest.raises(MediaError, match="a.gif' cannot be read: image file is truncated"):
        read_reference(tmp_path / "a.gif", (8, 8))


@pytest.mark.parametrize("kind", ["EPS", "ICO"])
def test_other_kinds_under_the_name_of_a_png(tmp_path, kind):
    """Pillow would run another program for the first, and choose one of several sizes of the second."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", format=kind)
    with pytest.raises(MediaError, match="a.png' cannot be read: it is not a common kind of png"):
        read_reference(tmp_path / "a.png", (8, 8))


def test_a_very_narrow_picture(tmp_path):
    """What is cropped is not resized: 1x65000 pixels at 40000 columns would have 2.6 billion rows."""
    rows = np.zeros((65000, 1, 3), np.uint8)
    rows[32000:33000] = BLUE
    Image.fromarray(rows).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png", (16, 40000))[8, 0].tolist() == list(BLUE)
