"""Pictures and videos: reading, resizing, atomic writing."""

import os
import resource
from contextlib import contextmanager

import av
import numpy as np
import pytest
import torch
from PIL import Image

from opensora_adacache.media.files import write_file
from opensora_adacache.media.reading import read_reference, read_video
from opensora_adacache.media.writing import write_image, write_video


def moving_square(num_frames=9, height=48, width=64):
    """A white square that moves 4 pixels per frame over a dark red ground."""
    frames = torch.full((3, num_frames, height, width), -1.0)
    frames[0] = 0.0
    for index in range(num_frames):
        frames[:, index, 8:24, 4 * index : 4 * index + 16] = 1.0
    return frames


def assert_similar(read, written, tolerance=0.03):
    assert read.shape == written.shape and read.dtype == torch.float32
    assert read.min() >= -1 and read.max() <= 1
    assert (read - written).abs().mean() < tolerance


def test_a_video_comes_back(tmp_path):
    frames = moving_square()
    path = write_video(tmp_path / "new" / "clip.mp4", frames, fps=24)
    assert_similar(read_video(path), frames)
    # Flat areas keep their colour: the matrix is tagged and read back.
    assert (read_video(path)[:, :, 32:, :] - frames[:, :, 32:, :]).abs().max() < 0.1
    assert os.listdir(path.parent) == ["clip.mp4"]


def test_the_video_is_what_players_expect(tmp_path):
    import av

    write_video(tmp_path / "clip.mp4", moving_square(), fps=12.5)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 9)
        assert stream.average_rate == 12.5


def test_odd_sizes_repeat_the_last_row_and_column(tmp_path):
    frames = moving_square(height=47, width=63)
    read = read_video(write_video(tmp_path / "clip.mp4", frames, fps=24))
    assert read.shape == (3, 9, 48, 64)
    assert_similar(read[:, :, :47, :63], frames)
    assert_similar(read[:, :, 47:, :63], frames[:, :, 46:])


def test_the_same_frames_give_the_same_file(tmp_path):
    first, second = (write_video(tmp_path / name, moving_square(), fps=24) for name in ("a.mp4", "b.mp4"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_comes_back_exactly(tmp_path, dtype):
    levels = torch.tensor([0, 1, 127, 254, 255]).repeat(3, 4, 1)
    frame = (levels / 127.5 - 1).to(dtype)
    path = write_image(tmp_path / "image.png", frame)
    # bf16 has eight bits for a value in -1..1, so a level may move by one.
    close = torch.as_tensor(np.asarray(Image.open(path)).astype(int)).permute(2, 0, 1) - levels
    assert close.abs().max() <= (0 if dtype == torch.float32 else 1)
    assert torch.equal(read_reference(path, (4, 5)), read_reference(str(path), (4, 5)))
    assert read_reference(path, (4, 5)).shape == (3, 1, 4, 5)


def test_values_beyond_the_range_are_clamped(tmp_path):
    path = write_image(tmp_path / "image.png", torch.tensor([-3.0, 3.0]).expand(3, 1, 2, 2))
    assert torch.equal(read_reference(path, (2, 2))[0, 0], torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]))


@pytest.mark.parametrize(
    "size, given", [((20, 20), (40, 20)), ((20, 20), (20, 60)), ((33, 47), (17, 90)), ((7, 9), (9, 7))]
)
def test_references_are_resized_to_cover_and_cropped_around_the_centre(tmp_path, size, given):
    height, width = given
    ramp = torch.stack(
        [
            torch.linspace(-1, 1, width).expand(height, width),
            torch.linspace(-1, 1, height)[:, None].expand(height, width),
            torch.zeros(height, width),
        ]
    )
    reference = read_reference(write_image(tmp_path / "ramp.png", ramp), size)
    assert reference.shape == (3, 1, *size)
    assert reference.mean(dim=(1, 2, 3)).abs().max() < 0.12  # an odd rest is off by half a pixel
    factor = max(size[0] / height, size[1] / width)
    spans = reference[0, 0, 0, -1] - reference[0, 0, 0, 0], reference[1, 0, -1, 0] - reference[1, 0, 0, 0]
    expected = 2 * size[1] / (factor * width), 2 * size[0] / (factor * height)
    assert spans == pytest.approx(expected, abs=0.25)


def test_a_video_reference_is_resized_too(tmp_path):
    write_video(tmp_path / "clip.mp4", moving_square(), fps=24)
    reference = read_reference(tmp_path / "clip.mp4", (24, 32))
    assert_similar(reference, torch.nn.functional.avg_pool2d(moving_square(), 2), tolerance=0.05)


def test_pictures_of_cameras_are_turned_upright(tmp_path):
    picture = Image.fromarray(np.zeros((10, 20, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "photo.jpg", exif=exif)
    assert read_reference(tmp_path / "photo.jpg", (20, 10)).shape == (3, 1, 20, 10)


def test_missing_or_unreadable_references_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="reference '.*a.png' does not exist"):
        read_reference(tmp_path / "a.png", (8, 8))
    with pytest.raises(FileNotFoundError):
        read_reference(tmp_path, (8, 8))
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match="suffix '.txt'"):
        read_reference(tmp_path / "a.txt", (8, 8))
    whole = write_image(tmp_path / "whole.png", torch.rand(3, 32, 32)).read_bytes()
    clip = write_video(tmp_path / "whole.mp4", moving_square(), fps=24).read_bytes()
    for name, data in {
        "text.png": b"text",
        "empty.jpg": b"",
        "cut.png": whole[:200],
        "text.mp4": b"text",
        "empty.mp4": b"",
        "cut.mp4": clip[: len(clip) // 2],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name) as caught:
            read_reference(tmp_path / name, (8, 8))
        assert "\n" not in str(caught.value)


def test_videos_that_are_not_whole_are_refused(tmp_path):
    """A file with its index in front can end after any frame and still be readable."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for level in range(9):
            picture = np.full((64, 64, 3), 20 * level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    assert read_video(path).shape == (3, 9, 64, 64)
    data = path.read_bytes()
    path.write_bytes(data[: starts[4]])
    with pytest.raises(ValueError, match=r"clip.mp4' was cut off: it holds 4 of its 9 frames; make it again"):
        read_video(path)
    for content in (data[: starts[4] + 5], data[: starts[0] // 2], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="clip.mp4' ") as caught:
            read_video(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="video '.*gone.mp4' does not exist"):
        read_video(tmp_path / "gone.mp4")


def test_bad_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\[3, F, H, W\]"):
        write_video(tmp_path / "a.mp4", torch.zeros(1, 3, 8, 8), fps=24)
    with pytest.raises(ValueError, match=r"\[3, F, H, W\]"):
        write_video(tmp_path / "a.mp4", torch.zeros(3, 0, 8, 8), fps=24)
    with pytest.raises(ValueError, match="fps"):
        write_video(tmp_path / "a.mp4", torch.zeros(3, 2, 8, 8), fps=0)
    with pytest.raises(ValueError, match="one frame"):
        write_image(tmp_path / "a.png", torch.zeros(3, 2, 8, 8))
    assert os.listdir(tmp_path) == []


@contextmanager
def files_at_most(num_bytes):
    """Make the system refuse larger files, like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "write", [lambda path: write_video(path, moving_square(), 24), lambda path: write_file(path, b"x" * 999)]
)
def test_nothing_half_written_stays_when_the_disk_is_full(tmp_path, write):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"before")
    with files_at_most(100), pytest.raises(OSError, match="cannot write '.*clip.mp4'") as caught:
        write(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        write_image(tmp_path / "file" / "a.png", torch.zeros(3, 8, 8))
    with pytest.raises(OSError, match="cannot write"):
        write_file(tmp_path / ("long" * 100), b"")
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path):
    name = "p" * 251 + ".png"
    assert write_image(tmp_path / name, torch.zeros(3, 8, 8)).exists()
