"""Draw the animation of the README: videos of finished runs side by side, as a looping GIF.

python scripts/experiments/draw_preview.py [--folder assets/samples] [--output assets/preview.gif]

The folder holds files `RUN-INDEX.mp4`. Each run is a column and each index a row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import imageio.v3 as iio
from PIL import Image, ImageDraw, ImageFont

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser

RUNS = {"baseline": "baseline: every step", "adacache": "AdaCache", "adacache-moreg": "AdaCache + MoReg"}
INDICES = ("0002", "0004")
SIDE, GAP, HEADER, FPS = 168, 8, 26, 8
PAPER, INK = "#ffffff", "#1f2933"


def draw(folder: Path) -> list[Image.Image]:
    """Return the frames of the animation."""
    videos = [[_pictures(folder / f"{run}-{index}.mp4") for run in RUNS] for index in INDICES]
    size = (len(RUNS) * (SIDE + GAP) - GAP, HEADER + len(INDICES) * (SIDE + GAP) - GAP)
    font = ImageFont.load_default(size=14)
    frames = []
    for time in range(len(videos[0][0])):
        frame = Image.new("RGB", size, PAPER)
        pen = ImageDraw.Draw(frame)
        for column, title in enumerate(RUNS.values()):
            left = column * (SIDE + GAP)
            pen.text((left + SIDE / 2, HEADER / 2), title, fill=INK, font=font, anchor="mm")
            for row in range(len(INDICES)):
                frame.paste(videos[row][column][time], (left, HEADER + row * (SIDE + GAP)))
        frames.append(frame)
    return frames


def _pictures(path: Path) -> list[Image.Image]:
    images = map(Image.fromarray, iio.imread(path, plugin="pyav"))
    return [image.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description="Draw the animation of the README.")
    parser.add_argument("--folder", type=Path, default=Path("assets/samples"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("assets/preview.gif"), help="default: %(default)s")
    return run_command(draw_preview, parser.parse_args(arguments))


def draw_preview(options: argparse.Namespace) -> None:
    """Draw the animation and write it."""
    first, *others = (frame.quantize(256, dither=Image.Dither.NONE) for frame in draw(options.folder))
    durations = [1000 // FPS] * len(others) + [1000]  # show the last frame for a second
    first.save(options.output, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
