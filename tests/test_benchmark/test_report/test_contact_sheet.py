"""Contact sheets: frames, schedule and prompt of every video, on as many pages as they need."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from opensora_adacache.benchmark.report.contact_sheet import (
    LABEL_WIDTH,
    LONGEST_PAGE,
    MARGIN,
    PAGE_WIDTH,
    TITLE,
    draw_pages,
    draw_strip,
    drawable,
    wrapped,
    write_contact_sheets,
)
from opensora_adacache.benchmark.report.runs import FinishedVideo
from opensora_adacache.media.reading import read_spread
from opensora_adacache.media.writing import write_image, write_video

BLUE, PALE = (37, 99, 168), (223, 231, 240)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of 9 frames, each brighter than the one before."""
    frames = torch.linspace(-0.8, 0.8, 9)[None, :, None, None].expand(3, 9, 32, 32)
    return write_video(tmp_path_factory.mktemp("videos") / "sample_0000.mp4", frames, 8)


def finished(path, prompt="a red circle", schedule="##..#"):
    steps = tuple(mark == "#" for mark in schedule)
    return FinishedVideo(path, prompt, 0, len(steps), sum(steps), 1.0, 0, steps)


def test_frames_are_evenly_spaced_from_the_first_to_the_last(clip, tmp_path):
    levels = [picture.getpixel((9, 9))[0] for picture in read_spread(clip, 5)]
    assert levels == pytest.approx([(1 + -0.8 + 0.4 * step) * 127.5 for step in range(5)], abs=3)
    assert len(read_spread(clip, 40)) == 9
    image = write_image(tmp_path / "a.png", torch.zeros(3, 8, 8))
    assert [picture.size for picture in read_spread(image, 5)] == [(8, 8)]


def test_a_row_has_the_frames_and_the_schedule_of_its_video(clip):
    (page,) = draw_pages("My run", [finished(clip), finished(clip, schedule="#....")])
    assert page.width == PAGE_WIDTH
    first = page.getpixel((MARGIN + LABEL_WIDTH + 5, MARGIN + TITLE + 5))[0]
    last = page.getpixel((PAGE_WIDTH - MARGIN - 9, MARGIN + TITLE + 5))[0]
    assert first == pytest.approx(0.2 * 127.5, abs=4) and last == pytest.approx(1.8 * 127.5, abs=4)
    # of both strips: four computed steps of ten
    colours = {colour: count for count, colour in page.getcolors(1 << 24)}
    assert colours[BLUE] / colours[PALE] == pytest.approx(4 / 6, rel=0.05)


def test_many_videos_are_spread_over_pages_of_about_the_same_length(clip):
    pages = list(draw_pages("My run", [finished(clip)] * 40))
    heights = [page.height for page in pages]
    assert len(pages) == 3 and max(heights) <= LONGEST_PAGE and min(heights) > 0.9 * max(heights)


def test_images_stand_side_by_side(tmp_path):
    image = write_image(tmp_path / "a.png", torch.zeros(3, 16, 16))
    (row,) = draw_pages("My run", [finished(image)] * 3)
    (alone,) = draw_pages("My run", [finished(image)])
    assert row.height == alone.height


def test_cells_of_a_strip():
    picture = Image.new("RGB", (60, 4), "white")
    draw_strip(ImageDraw.Draw(picture), (0, 0, 50, 4), [True, False, True, True, False])
    assert [picture.getpixel((10 * cell + 4, 2)) for cell in range(5)] == [BLUE, PALE, BLUE, BLUE, PALE]
    assert picture.getpixel((9, 2)) == picture.getpixel((52, 2)) == (255, 255, 255)
    # more steps than pixels
    draw_strip(ImageDraw.Draw(picture), (0, 0, 50, 4), [True] * 400)
    assert {picture.getpixel((x, 2)) for x in range(50)} == {BLUE}


def test_prompts_are_wrapped_and_shortened():
    font = ImageFont.load_default(13)
    words = "a yellow square moves slowly left over a dark background and then it turns around"
    lines = wrapped(words, 120, 3, font)
    assert len(lines) == 3 and lines[-1].endswith("…") and all(font.getlength(line) <= 120 for line in lines)
    assert words.startswith(" ".join(lines)[:-1])
    assert wrapped("x" * 200, 120, 2, font)[1].endswith("x…")
    assert wrapped("a red\n circle", 120, 3, font) == ["a red circle"] and wrapped("", 120, 3, font) == []
    assert drawable("“Ünïcödé” – 世界") == '"Unicode" - ??'


def test_pages_of_an_earlier_sheet_are_removed(clip, tmp_path):
    other = tmp_path / "contact_sheets" / "fast-2_page1.png"
    written = write_contact_sheets(tmp_path, "fast", "Fast", [finished(clip)] * 20)
    assert [path.name for path in written] == ["fast_page1.png", "fast_page2.png"]
    other.touch()
    written = write_contact_sheets(tmp_path, "fast", "Fast", [finished(clip)])
    assert sorted(path.name for path in other.parent.iterdir()) == ["fast-2_page1.png", "fast.png"]
