"""Previews of unfinished videos: when they are written, what removes them, and errors in them."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from opensora_adacache.generation.denoising_step import DenoisingStep
from opensora_adacache.generation.previews import Previews, preview_path
from opensora_adacache.generation.references import ReferenceShelf


def step(index, frames):
    return DenoisingStep(index, 6, (True,), lambda: frames)


@pytest.fixture
def told():
    return []


def test_every_few_steps_the_preview_is_replaced_and_at_last_removed(tmp_path, told):
    wanted, other = tmp_path / "sample_0000.mp4", tmp_path / "sample_0001.mp4"
    wanted.write_bytes(b"of an earlier run")
    written = []
    with Previews(2, False, told.append) as previews:
        for index in range(6):
            frames = torch.full((3, 3, 16, 16), index / 5)  # grey, brighter with each step
            previews.show(step(index, frames), [wanted, None, other])
            shown = sorted(path.name for path in tmp_path.glob("*.jpg"))
            brightness = Image.open(preview_path(wanted)).getpixel((8, 8))[0] if shown else None
            written.append((len(shown), brightness))
        # after steps 2 and 4; after step 6 the videos themselves follow
        assert written == [(0, None), *[(2, 153)] * 2, *[(2, 204)] * 3]
        assert shown == ["sample_0000.preview.jpg", "sample_0001.preview.jpg"]
        previews.remove([wanted])
        assert [path.name for path in tmp_path.glob("*.jpg")] == ["sample_0001.preview.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["sample_0000.mp4"] and not told


def test_the_first_error_is_a_warning_and_the_last_preview(tmp_path, told):
    def fails():
        raise RuntimeError("out of\nmemory")

    with Previews(2, False, told.append) as previews:
        previews.show(DenoisingStep(1, 6, (True,), fails), [tmp_path / "a.mp4"])
        previews.show(step(3, torch.zeros(1, 3, 8, 8)), [tmp_path / "a.mp4"])
        assert not list(tmp_path.iterdir())
    assert told == ["no more previews are written after step 2 of 6: out of memory"]


def test_a_watermark_is_in_previews_too(tmp_path, told):
    pictures = []
    for watermark in (False, True):
        with Previews(1, watermark, told.append) as previews:
            previews.show(step(0, torch.zeros(1, 3, 64, 64)), [tmp_path / "a.mp4"])
            pictures.append(Image.open(preview_path(tmp_path / "a.mp4")).convert("L").getextrema())
    assert pictures[0] == (128, 128) and pictures[1][1] > 150


def test_previews_of_images_are_no_references(tmp_path):
    for name in ("sample_0000.png", "sample_0001.preview.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert ReferenceShelf((str(tmp_path),), 2).find(0) == (tmp_path / "sample_0000.png",)
    assert ReferenceShelf((str(tmp_path),), 2).find(1) == ()
