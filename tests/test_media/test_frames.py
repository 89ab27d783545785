"""Frames of videos of every kind: each is shown as it is meant, or refused in one line."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from opensora_adacache.errors.family import MediaError
from opensora_adacache.media.reading import count_frames, read_video

LEVEL = (200, 40, 120)


def write(
    path, codec="libx264", pixels="yuv420p", size=(32, 32), count=3, options=None, options_of_file=None, **settings
):
    """Write a video of one colour, whose left half is transparent where the format allows it."""
    picture = np.full((*size[::-1], 4), (*LEVEL, 255), np.uint8)
    picture[:, : size[0] // 2, 3] = 0
    with av.open(str(path), "w", options=options_of_file or {}) as container:
        stream = container.add_stream(codec, rate=8, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        context = stream.codec_context
        for name, value in {"colorspace": 1, "color_range": 1, **settings}.items():
            setattr(context, name, value)
        for _ in range(count):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba")
            container.mux(stream.encode(frame.reformat(format=pixels, dst_colorspace=1)))
        container.mux(stream.encode(None))
    return path


def shown(path):
    """The levels 0..255 of the first frame [H, W, 3]."""
    return (read_video(path)[:, 0].permute(1, 2, 0).numpy() + 1) * 127.5


@pytest.mark.parametrize(
    ("reason", "settings"),
    [
        ("it is interlaced; convert it", {"options": {"x264-params": "tff=1"}}),
        ("its colours are PQ", {"color_trc": 16}),
        ("its colours are HLG", {"color_trc": 18, "color_primaries": 9}),
        ("its colours are BT.2020", {"color_primaries": 9}),
    ],
)
def test_videos_that_need_another_program(tmp_path, reason, settings):
    path = write(tmp_path / "a.mp4", **settings)
    for read in (count_frames, read_video):
        with pytest.raises(MediaError, match=f"a.mp4' cannot be read: {reason}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_pixels_that_are_not_square(tmp_path):
    wide = write(tmp_path / "wide.mkv", sample_aspect_ratio=Fraction(2, 1))
    assert shown(wide).shape == (32, 64, 3)
    tall = write(tmp_path / "tall.mp4", sample_aspect_ratio=Fraction(1, 2))
    assert shown(tall).shape == (64, 32, 3)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p12le"])
def test_more_than_eight_bits(tmp_path, pixels):
    path = write(tmp_path / "a.mkv", "ffv1", pixels)
    assert np.abs(shown(path) - LEVEL).max() < 2


@pytest.mark.parametrize(("codec", "name"), [("libvpx-vp9", "a.webm"), ("libvpx", "a.webm"), ("ffv1", "a.mkv")])
def test_transparent_videos(tmp_path, codec, name):
    options = {"auto-alt-ref": "0", "crf": "4", "b": "1000000"} if codec != "ffv1" else {}
    path = write(tmp_path / name, codec, "yuva420p", options=options)
    picture = shown(path)
    assert (picture[:, :15] == 255).all() and (picture[:, 17:] < 230).all()


def test_a_cover_picture_is_not_the_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video, cover = container.add_stream("mpeg4", rate=8), container.add_stream("mjpeg", rate=8)
        cover.disposition = av.stream.Disposition.attached_pic
        for stream, size, pixels in ((video, 32, "yuv420p"), (cover, 64, "yuvj420p")):
            stream.width, stream.height, stream.pix_fmt = size, size, pixels
        for stream, count, level in ((video, 5, 50), (cover, 1, 250)):
            picture = Image.new("RGB", (stream.width, stream.height), (level,) * 3)
            for _ in range(count):
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode(None))
    data = path.read_bytes()
    # Some programs write the cover (in "udta", the last box here) before the video ("trak").
    at, last = data.index(b"trak") - 4, data.rindex(b"udta") - 4
    path.write_bytes(data[:at] + data[last:] + data[at:last])
    with av.open(str(path)) as container:
        assert container.streams.video[0].disposition == av.stream.Disposition.attached_pic
    assert count_frames(path) == 5
    assert np.abs(shown(path) - 50).max() < 2


def cut(path, frames):
    """Cut a file off before a frame."""
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: starts[frames]])


def test_a_matroska_file_that_was_cut_off(tmp_path):
    path = write(tmp_path / "a.mkv", "mpeg4", count=9)
    assert count_frames(path) == 9
    cut(path, 5)
    count_frames(path, 3)
    with pytest.raises(MediaError, match=r"a.mkv' was cut off after 5 frames; make or copy it again"):
        count_frames(path)


def test_an_mp4_reference_that_was_cut_off(tmp_path):
    path = write(tmp_path / "a.mp4", "mpeg4", count=9, options_of_file={"movflags": "faststart"})
    cut(path, 5)
    count_frames(path, 3)
    with pytest.raises(MediaError, match=r"a.mp4' was cut off: it holds 5 of its 9 frames"):
        count_frames(path)


def test_frames_that_an_edit_list_hides_are_not_missed(tmp_path):
    path = write(tmp_path / "a.mp4", "mpeg4", count=9)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    duration, start = struct.unpack(">Ii", data[at + 12 : at + 20])
    data[at + 12 : at + 20] = struct.pack(">Ii", duration // 3, start + 3 * 2048)
    path.write_bytes(data)
    assert read_video(path).shape[1] < 9


def test_damaged_frames(tmp_path):
    noise = np.random.default_rng(0)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            picture = noise.integers(0, 256, (48, 64, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = noise.bytes(2000)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="a.mp4' cannot be read: it is damaged or cut off; make or copy it again"):
        read_video(path)


def test_a_video_turned_by_an_odd_angle(tmp_path):
    path = write(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 4] = struct.pack(">i", 20000)
    data[at + 4 : at + 8] = struct.pack(">i", 3)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="turned by an angle that is no multiple of 90 degrees; save it upright"):
        count_frames(path)
