"""Uploaded images: what is read, and what is refused in one line that names no path."""

from __future__ import annotations

import pytest
from PIL import Image

from opensora_adacache.app.limits import Limits
from opensora_adacache.app.uploads import store_upload
from opensora_adacache.errors.family import MediaError

LIMITS = Limits(upload_bytes=5000, upload_pixels=1000)


@pytest.fixture
def uploads(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    return folder


def store(path, uploads):
    return store_upload(path, uploads, uploads.parent / "pair/reference.png", LIMITS)


def test_an_image_becomes_a_plain_png(uploads):
    Image.new("RGBA", (8, 4), (255, 0, 0, 0)).save(uploads / "a.webp", lossless=True)
    with Image.open(store(uploads / "a.webp", uploads)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (8, 4))
        assert image.getpixel((0, 0)) == (255, 255, 255)  # transparent parts are white


def test_files_that_were_not_uploaded_are_not_read(uploads):
    outside = uploads.parent / "secret.png"
    Image.new("RGB", (4, 4)).save(outside)
    (uploads / "link.png").symlink_to(outside)
    names = (outside, uploads / "link.png", uploads / "../secret.png", uploads / "none.png", uploads, "/etc/passwd")
    for path in names:
        with pytest.raises(MediaError) as caught:
            store(path, uploads)
        assert str(caught.value) == "the reference image was not uploaded: upload a file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", "the reference image cannot be read: upload a png, jpeg, webp, bmp, gif or tiff file"),
        (b"", "cannot be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "cannot be read"),
        (bytes(5001), r"larger than 0.005 MB: upload a smaller one"),
    ],
)
def test_bad_images(content, message, uploads):
    (uploads / "a.png").write_bytes(content)
    with pytest.raises(MediaError, match=message) as caught:
        store(uploads / "a.png", uploads)
    assert str(uploads) not in str(caught.value)
    assert not (uploads.parent / "pair").exists()


def test_large_images_are_refused_before_their_pixels_are_read(uploads):
    Image.new("1", (20000, 1000)).save(uploads / "a.tiff", compression="group4")
    with pytest.raises(MediaError, match="has 20000x1000 pixels, but at most 0.001 million are read"):
        store(uploads / "a.tiff", uploads)


def test_an_image_of_an_unknown_range_says_so(uploads):
    Image.new("I", (4, 4)).save(uploads / "a.tiff")
    with pytest.raises(MediaError, match="^the reference image cannot be read: it has 32-bit integers"):
        store(uploads / "a.tiff", uploads)


def test_a_truncated_image(uploads):
    Image.effect_noise((30, 30), 50).save(uploads / "a.png")
    (uploads / "a.png").write_bytes((uploads / "a.png").read_bytes()[:400])
    with pytest.raises(MediaError, match="cannot be read"):
        store(uploads / "a.png", uploads)
