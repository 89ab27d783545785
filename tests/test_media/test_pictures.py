"""Pictures of every kind: more than 8 bits, transparency, orientation."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
import torch
from PIL import Image

from opensora_adacache.errors.family import MediaError
from opensora_adacache.media.pictures import plain_picture
from opensora_adacache.media.reading import count_frames, read_chunks, read_reference, read_video
from opensora_adacache.media.writing import write_video

RAMP = np.linspace(0, 1, 96)


def levels(path, size=(96, 128)):
    """The grey levels 0..255 of the reference, a row of the middle."""
    return ((read_reference(path, size)[0, 0, size[0] // 2] + 1) * 127.5).numpy()


@pytest.mark.parametrize("name", ["gray16.png", "gray16.tif", "float01.tif"])
def test_ramps_of_more_than_eight_bits_go_from_dark_to_bright(data_folder, name):
    row = levels(data_folder / "cases" / name)
    assert row[0] < 5 and row[-1] > 250 and 120 < row[len(row) // 2] < 135
    assert (np.diff(row) >= 0).all() and len(np.unique(np.round(row))) > 60


def test_whole_numbers_of_32_bits_are_refused(data_folder):
    with pytest.raises(MediaError, match="int32.tif' cannot be read: it has 32-bit integers, whose white"):
        read_reference(data_folder / "cases" / "int32.tif", (8, 8))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_are_scaled_exactly(tmp_path, name):
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert np.asarray(plain_picture(image))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bits_of_a_portable_map(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P5 3 1 65535\n" + np.array([0, 32768, 65535], ">u2").tobytes())
    with Image.open(tmp_path / "a.ppm") as image:
        assert np.asarray(plain_picture(image))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("worst", [1.5, -0.1, float("nan"), float("inf")])
def test_floating_point_beyond_0_to_1_is_refused(tmp_path, worst):
    Image.fromarray(np.array([[0.5, worst]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match="floating-point values are in .* expected 0..1"):
        read_reference(tmp_path / "a.tif", (8, 8))


def transparent(mode: str) -> Image.Image:
    """A picture that is red under its transparent left half and blue on its right."""
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (4, 0, 8, 8))
    if mode == "P":
        palette = image.convert("RGB").quantize(4)
        palette.info["transparency"] = palette.getpixel((0, 0))
        return palette
    return image.convert(mode)


@pytest.mark.parametrize(("mode", "name"), [("RGBA", "a.png"), ("RGBA", "a.webp"), ("P", "a.png"), ("P", "a.gif")])
def test_what_is_transparent_is_white(tmp_path, mode, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    image = transparent(mode)
    if mode == "P":
        options["transparency"] = image.info["transparency"]
    image.save(tmp_path / name, **options)
    pixels = read_reference(tmp_path / name, (8, 8))[:, 0]
    assert pixels[:, 4, 1].tolist() == [1, 1, 1]
    assert pixels[:, 4, 6].tolist() == [-1, -1, 1]


def test_half_transparent_grey_is_mixed_with_white():
    image = Image.new("LA", (2, 2), (0, 128))
    assert np.asarray(plain_picture(image))[0, 0].tolist() == [127, 127, 127]


def test_a_turned_picture_of_16_bits(tmp_path):
    image = Image.fromarray(np.full((10, 20), 65535, np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as saved:
        assert plain_picture(saved).size == (10, 20)


def corners(frames: torch.Tensor) -> list[list[int]]:
    """The colours (0 or 1 per channel) of the four corners, clockwise from the upper left one."""
    picture = frames[:, 0]
    return [(picture[:, y, x] > 0).int().tolist() for y, x in ((4, 4), (4, -5), (-5, -5), (-5, 4))]


def test_a_phone_held_upright(data_folder):
    frames = read_video(data_folder / "cases" / "rotated90.mp4")
    assert frames.shape == (3, 20, 128, 96)
    # The file holds black, red, yellow, green from the upper left corner clockwise, and turns it clockwise.
    assert corners(frames) == [[0, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]]
    reference = read_reference(data_folder / "cases" / "rotated90.mp4", (64, 48))
    assert corners(reference) == corners(frames)


def turned_video(path, matrix):
    """A video with a black, red, yellow and green quarter and a given display matrix in its header."""
    frames = torch.full((3, 2, 48, 64), -1.0)
    frames[0, :, :, 32:] = 1
    frames[1, :, 24:, :] = 1
    data = bytearray(write_video(path, frames, 8).read_bytes())
    one = 1 << 16
    plain = np.array([one, 0, 0, 0, one, 0, 0, 0, 1 << 30], ">i4").tobytes()
    at = data.index(plain, data.index(b"tkhd"))
    a, b, c, d = matrix
    data[at : at + 36] = np.array([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    return path


BLACK, RED, YELLOW, GREEN = [0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), [BLACK, RED, YELLOW, GREEN]),
        ((0, 1, -1, 0), [GREEN, BLACK, RED, YELLOW]),
        ((-1, 0, 0, -1), [YELLOW, GREEN, BLACK, RED]),
        ((0, -1, 1, 0), [RED, YELLOW, GREEN, BLACK]),
        ((-1, 0, 0, 1), [RED, BLACK, GREEN, YELLOW]),
        ((1, 0, 0, -1), [GREEN, YELLOW, RED, BLACK]),
        ((0, 1, 1, 0), [BLACK, GREEN, YELLOW, RED]),
        ((0, -1, -1, 0), [YELLOW, RED, BLACK, GREEN]),
    ],
)
def test_every_display_matrix(tmp_path, matrix, expected):
    frames = read_video(turned_video(tmp_path / "a.mp4", matrix))
    assert corners(frames) == expected
    assert frames.shape[2:] == ((64, 48) if matrix[0] == 0 else (48, 64))


@pytest.mark.parametrize(("orientation", "expected"), [(1, [BLACK, RED]), (3, [RED, BLACK]), (8, [RED, BLACK])])
def test_frames_of_a_camera_hold_exif(tmp_path, orientation, expected):
    """FFmpeg passes on the EXIF of each picture of a motion JPEG, side data for which PyAV has no name."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.new("RGB", (64, 32))
    picture.paste((255, 0, 0), (32, 0, 64, 32))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", exif=exif)
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        for number in range(2):
            packet = av.Packet(encoded.getvalue())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, number, number, True
            container.mux(packet)
    found = corners(read_video(tmp_path / "a.avi"))
    # on its side, the right half of the file is the upper one
    assert [found[0], found[2 if orientation == 8 else 1]] == expected


@pytest.mark.parametrize(("tag", "kind"), [(0x010F, 11), (0x0103, 4)])
@pytest.mark.parametrize("name", ["a.webp", "a.jpg"])
def test_exif_that_pillow_reads_and_cannot_write(tmp_path, name, tag, kind):
    """A make that is a float, or a compression of 32 bits: the orientation beside it is still good."""
    entries = sorted([(0x0112, 3, 1, b"\0\6\0\0"), (tag, kind, 1, b"\x3f\x80\0\0")])
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2)
    exif += b"".join(struct.pack(">HHI4s", *entry) for entry in entries) + bytes(4)
    picture = Image.new("RGB", (64, 32))
    picture.paste((255, 0, 0), (32, 0, 64, 32))
    picture.save(tmp_path / name, exif=exif)
    assert corners(read_reference(tmp_path / name, (64, 32))) == [BLACK, BLACK, RED, RED]


def test_a_picture_of_too_many_pixels_says_what_to_do(tmp_path, monkeypatch):
    Image.new("L", (40, 30)).save(tmp_path / "scan.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(MediaError, match=r"scan.tif' has more than 1000 pixels; save it again at a smaller size$"):
        read_reference(tmp_path / "scan.tif", (16, 16))


def test_the_index_of_a_video_comes_first(tmp_path):
    data = write_video(tmp_path / "a.mp4", torch.zeros(3, 5, 32, 32), 8).read_bytes()
    assert data.index(b"ftyp") < data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        assert len(list(container.decode(video=0))) == 5


@pytest.mark.parametrize("fps", [23.976, 12.5, 0.01, 1000])
def test_fractional_frames_per_second(tmp_path, fps):
    with av.open(str(write_video(tmp_path / "a.mp4", torch.zeros(3, 5, 32, 32), fps))) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(fps)


@pytest.mark.parametrize("fps", [0, -1, 1e12, float("nan"), 0.0001])
def test_frames_per_second_that_no_file_can_have(tmp_path, fps):
    with pytest.raises(MediaError, match=r"fps must lie in 0.01..1000"):
        write_video(tmp_path / "a.mp4", torch.zeros(3, 2, 32, 32), fps)


@pytest.fixture
def numbered(tmp_path):
    """A video whose frames have grey levels 0, 10, 20, …"""
    frames = torch.arange(20).mul(10).div(127.5).sub(1)[None, :, None, None].expand(3, 20, 32, 32)
    return write_video(tmp_path / "numbered.mp4", frames, 8)


def shades(frames):
    return ((frames.mean(dim=(0, 2, 3)) + 1) * 12.75).round().int().tolist()


def test_chunks_are_read_one_at_a_time_and_no_further_than_wanted(numbered):
    chunks = [
        (n, frames if frames is None else shades(frames)) for n, frames in read_chunks(numbered, (32, 32), 6, {1})
    ]
    assert chunks == [(6, None), (6, [6, 7, 8, 9, 10, 11])]
    chunks = [
        (n, frames if frames is None else shades(frames)) for n, frames in read_chunks(numbered, (32, 32), 6, {0, 3})
    ]
    assert chunks == [(6, [0, 1, 2, 3, 4, 5]), (6, None), (6, None), (2, [18, 19])]
    assert [n for n, _ in read_chunks(numbered, (32, 32), 10, {5})] == [10, 10]
    assert count_frames(numbered) == 20 and count_frames(numbered, 7) == 7
