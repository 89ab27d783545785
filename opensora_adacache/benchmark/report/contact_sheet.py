"""Contact sheets: the videos of a run as rows of evenly spaced frames, with prompt and schedule. Needs only Pillow."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from opensora_adacache.benchmark.report.drawing import COMPUTED, INK, REUSED, SOFT
from opensora_adacache.benchmark.report.runs import FinishedVideo
from opensora_adacache.errors.shown import counted
from opensora_adacache.media.files import write_file
from opensora_adacache.media.reading import read_spread

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

FOLDER = "contact_sheets"
# All lengths are in pixels.
PAGE_WIDTH, MARGIN, GAP = 1400, 24, 6
LABEL_WIDTH, LINE, STRIP = 300, 17, 8
TITLE, ROW_GAP = 52, 18
# Frames have this area whatever their proportions, so that a portrait is as visible as a landscape.
FRAME_AREA = 128 * 128
LONGEST_PAGE = 2600
_LEAST_PROMPT_LINES = 2
# What Pillow's font lacks of the punctuation in prompts.
_PLAIN = str.maketrans({"—": "-", "–": "-", "’": "'", "‘": "'", "“": '"', "”": '"'})


def write_contact_sheets(folder: Path, name: str, title: str, videos: Sequence[FinishedVideo]) -> list[Path]:
    """Write the contact sheet of a run to ``contact_sheets/NAME.png``, or several pages, and return their paths.

    The pages of an earlier sheet of that name are removed. They are in a folder of their own because a folder of images
    can be one of references, in which each picture belongs to a prompt.

    Args:
        folder: folder to put ``contact_sheets`` into.
        name: name of the sheet.
        title: first line of every page.
        videos: the videos, at least one.

    Raises:
        OSError: a video is missing, or the folder is not writable.
        ValueError: a video cannot be decoded.
    """
    pages = list(draw_pages(title, videos))
    target = folder / FOLDER
    old = re.compile(rf"{re.escape(name)}(_page\d+)?\.png")
    for path in list(target.glob("*.png")):
        if old.fullmatch(path.name):
            path.unlink()
    written = []
    for number, page in enumerate(pages, start=1):
        content = io.BytesIO()
        page.save(content, format="PNG")
        suffix = f"_page{number}" if len(pages) > 1 else ""
        written.append(write_file(target / f"{name}{suffix}.png", content.getbuffer()))
    return written


def draw_pages(title: str, videos: Sequence[FinishedVideo]) -> Iterator[Image]:
    """Yield the pages of a contact sheet; see `write_contact_sheets`."""
    layout = _Layout(videos[0])
    num_pages = -(-len(videos) // layout.most_on_page)
    computed = round(fmean(video.computed_steps for video in videos), 1)
    noun = "image" if layout.num_frames == 1 else "video"
    subtitle = f"{counted(len(videos), noun)}, {computed:g} of {videos[0].num_steps} steps computed"
    if len(videos) > 1:
        subtitle += " on average"
    for page in range(num_pages):
        first, last = (len(videos) * number // num_pages for number in (page, page + 1))
        place = f"  ·  page {page + 1} of {num_pages}: {noun}s {first + 1} to {last}" if num_pages > 1 else ""
        yield layout.draw(title, subtitle + place, videos[first:last])


class _Layout:
    """Sizes of a sheet whose videos are like the first one: how many frames a row has, and how many rows a page."""

    def __init__(self, video: FinishedVideo) -> None:
        pictures = read_spread(video.path, 2)
        aspect = pictures[0].width / pictures[0].height
        self.frame_width = round((FRAME_AREA * aspect) ** 0.5)
        room = PAGE_WIDTH - 2 * MARGIN - LABEL_WIDTH + GAP
        self.num_frames = 1
        if len(pictures) > 1:
            self.num_frames = max(round(room / (self.frame_width + GAP)), 2)
            self.frame_width = room // self.num_frames - GAP
        self.frame_height = round(self.frame_width / aspect)
        label_height = (2 + _LEAST_PROMPT_LINES) * LINE + STRIP + GAP
        self.row_height = max(self.frame_height, label_height)
        self.num_prompt_lines = (self.row_height - label_height) // LINE + _LEAST_PROMPT_LINES
        cell_width = LABEL_WIDTH + self.num_frames * (self.frame_width + GAP)
        # Images stand side by side.
        self.num_columns = max((PAGE_WIDTH - 2 * MARGIN) // cell_width, 1)
        self.column_width = (PAGE_WIDTH - 2 * MARGIN) // self.num_columns
        rows = (LONGEST_PAGE - TITLE - 2 * MARGIN) // (self.row_height + ROW_GAP)
        self.most_on_page = rows * self.num_columns

    def draw(self, title: str, subtitle: str, videos: Sequence[FinishedVideo]) -> Image:
        """Return a page with some videos."""
        from PIL import Image, ImageDraw

        num_rows = -(-len(videos) // self.num_columns)
        height = 2 * MARGIN + TITLE + num_rows * (self.row_height + ROW_GAP) - ROW_GAP
        page = Image.new("RGB", (PAGE_WIDTH, height), "white")
        draw = ImageDraw.Draw(page)
        room = PAGE_WIDTH - 2 * MARGIN
        draw.text((MARGIN, MARGIN - 4), _shortened(drawable(title), room, _font(18)), INK, _font(18))
        draw.text((MARGIN, MARGIN + 22), subtitle, SOFT, _font(13))
        for place, video in enumerate(videos):
            row, column = divmod(place, self.num_columns)
            left = MARGIN + column * self.column_width
            top = MARGIN + TITLE + row * (self.row_height + ROW_GAP)
            self._draw_label(draw, left, top, video)
            self._draw_frames(page, left + LABEL_WIDTH, top, video)
        return page

    def _draw_label(self, draw: ImageDraw, left: int, top: int, video: FinishedVideo) -> None:
        font, width = _font(13), LABEL_WIDTH - 2 * GAP
        draw.text((left, top), _shortened(drawable(video.path.stem), width, font), INK, font)
        draw.text((left, top + LINE), f"{video.computed_steps} of {video.num_steps} steps computed", SOFT, font)
        top += 2 * LINE + GAP // 2
        draw_strip(draw, (left, top, left + width, top + STRIP), video.schedule)
        top += STRIP + GAP // 2
        for number, line in enumerate(wrapped(drawable(video.prompt), width, self.num_prompt_lines, font)):
            draw.text((left, top + number * LINE), line, INK, font)

    def _draw_frames(self, page: Image, left: int, top: int, video: FinishedVideo) -> None:
        for place, picture in enumerate(read_spread(video.path, self.num_frames)):
            factor = min(self.frame_width / picture.width, self.frame_height / picture.height)
            size = (max(round(picture.width * factor), 1), max(round(picture.height * factor), 1))
            page.paste(picture.resize(size), (left + place * (self.frame_width + GAP), top))


def draw_strip(draw: ImageDraw, box: tuple[int, int, int, int], schedule: Sequence[bool]) -> None:
    """Draw a schedule into a box (left, top, right, bottom): a cell per step, with gaps if there is room for them."""
    left, top, right, bottom = box
    edges = [left + (right - left) * step / len(schedule) for step in range(len(schedule) + 1)]
    gap = 1 if (right - left) / len(schedule) >= 4 else 0
    for computed, start, end in zip(schedule, edges, edges[1:], strict=False):
        first, last = round(start), round(end) - 1 - gap
        if last >= first:
            draw.rectangle((first, top, last, bottom - 1), COMPUTED if computed else REUSED)


def wrapped(text: str, width: int, num_lines: int, font: Font) -> list[str]:
    """Return a text in at most `num_lines` lines of a width in pixels, with "…" where it is cut off."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < num_lines - 1:
        fits = _fitting(rest, width, font)
        # at a blank if there is one; a language may write none
        end = len(rest) if fits == len(rest) else rest.rfind(" ", 0, fits + 1)
        end = end if end > 0 else max(fits, 1)
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    return [*lines, _shortened(rest, width, font)] if rest else lines


def drawable(text: str) -> str:
    """Return a text with the characters that Pillow's font has: others lose their accents or become "?".

    >>> drawable("café — Привет")
    'cafe - ??????'
    """
    return "".join(map(_drawable_mark, text.translate(_PLAIN)))


@cache
def _drawable_mark(mark: str) -> str:
    font = _font(13)
    missing = bytes(font.getmask("\uffff"))
    for candidate in (mark, unicodedata.normalize("NFKD", mark)[:1]):
        if candidate == " " or bytes(font.getmask(candidate)) != missing:
            return candidate
    return "?"


def _shortened(text: str, width: int, font: Font) -> str:
    if font.getlength(text) <= width:
        return text
    fits = _fitting(text, width - int(font.getlength("…")) - 1, font)
    end = text.rfind(" ", 0, fits + 1)  # at a blank if it costs little
    return text[: end if end > fits * 3 // 4 else fits].rstrip() + "…"


def _fitting(text: str, width: int, font: Font) -> int:
    """Return how many characters at the beginning of a text fit into a width."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


def _font(size: int) -> Font:
    """Return the font that is part of Pillow."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
