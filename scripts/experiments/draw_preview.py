"""Draw the animation of the README: the same videos made at the same time, with and without a cache.

python scripts/experiments/draw_preview.py [--output assets/preview.webp]

Each column is a config of the bundled model and each row a prompt. While a video is denoised, its middle frame is shown
as it would look if the model's output stayed as it is; then the video plays. The clock counts FLOPs: a tick is the work
of a computed step, so the picture does not depend on the machine.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from opensora_adacache.benchmark.report.drawing import COMPUTED, INK, REUSED, SOFT
from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser

if TYPE_CHECKING:
    from torch import Tensor

RUNS = {
    "every step computed": "scenes/sample",
    "AdaCache + MoReg": "scenes/sample_adacache_moreg",
    "ForecastCache": "scenes/sample_forecast",
}
PROMPTS = (2, 4)  # of assets/scenes/prompts.txt
SIDE, GAP, MARGIN, TITLE, FOOT = 176, 12, 10, 30, 44
TICK, HELD = 130, 34  # milliseconds of a tick; ticks after the last video is finished
PAPER = "#ffffff"


@dataclass(frozen=True)
class Take:
    """One video in the making.

    Attributes:
        computed: whether each step computed its blocks.
        times: when each step was finished, in ticks.
        previews: the middle frame [3, H, W] after each step.
        frames: the finished video [3, F, H, W].
    """

    computed: list[bool]
    times: list[float]
    previews: list[Tensor]
    frames: Tensor

    def picture(self, tick: int, last: int) -> Tensor | None:
        """Return the frame to show at a tick; None before the first step.

        The finished video plays at once, and again from its start at the tick at which the last video is finished.
        """
        done = self.steps_done(tick)
        if done == len(self.times):
            begin = last if tick >= last else self.times[-1]
            return self.frames[:, round(tick - begin) % self.frames.shape[1]]
        return self.previews[done - 1] if done else None

    def steps_done(self, tick: int) -> int:
        """Return the number of steps that are finished at a tick."""
        return sum(time <= tick + 1e-6 for time in self.times)


def make(name: str, index: int) -> Take:
    """Make the video of a prompt with a config."""
    import torch

    from opensora_adacache.config import load_config
    from opensora_adacache.config.paths import find_config
    from opensora_adacache.costs.run import step_flops
    from opensora_adacache.generation.denoising_step import DenoisingStep
    from opensora_adacache.generation.jobs import plan_jobs
    from opensora_adacache.generation.models import load_run

    config = load_config(find_config(name), {"start_index": index, "end_index": index + 1, "verbose": 0})
    jobs, flops = plan_jobs(config), step_flops(config)
    computed, times, previews = [], [], []

    def note(step: DenoisingStep) -> None:
        computed.append(any(step.computed))
        times.append((times[-1] if times else 0.0) + (1.0 if computed[-1] else flops.reused / flops.computed))
        previews.append(step.preview()[0])

    with load_run(config, jobs, torch.device("cpu")).maker(config) as maker:
        (clip,) = maker.denoise(jobs, note)()
    return Take(computed, times, previews, clip.frames)


def draw(rows: list[list[Take]]) -> list[Image.Image]:
    """Return the frames of the animation, one for each tick.

    Args:
        rows: for each prompt, the take of each run.
    """
    columns = len(RUNS)
    size = (2 * MARGIN + columns * (SIDE + GAP) - GAP, 2 * MARGIN + TITLE + len(rows) * (SIDE + FOOT) - GAP)
    font, small = ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    last = round(max(take.times[-1] for row in rows for take in row))
    frames = []
    for tick in range(last + HELD):
        frame = Image.new("RGB", size, PAPER)
        pen = ImageDraw.Draw(frame)
        for column, title in enumerate(RUNS):
            left = MARGIN + column * (SIDE + GAP)
            pen.text((left + SIDE / 2, MARGIN + TITLE / 2 - 4), title, fill=INK, font=font, anchor="mm")
            for number, row in enumerate(rows):
                take, top = row[column], MARGIN + TITLE + number * (SIDE + FOOT)
                picture = take.picture(tick, last)
                if picture is not None:
                    frame.paste(_image(picture), (left, top))
                _draw_strip(pen, take, take.steps_done(tick), left, top + SIDE + 5)
                pen.text((left, top + SIDE + 17), _caption(take, row[0], tick), fill=SOFT, font=small)
        frames.append(frame)
    return frames


def _draw_strip(pen: ImageDraw.ImageDraw, take: Take, done: int, left: int, top: int) -> None:
    """Draw a cell for each step: filled if it was computed, pale if it was skipped, a line if it is to come."""
    width = SIDE / len(take.computed)
    for step, was_computed in enumerate(take.computed):
        color = (COMPUTED if was_computed else REUSED) if step < done else None
        box = (left + step * width, top, left + (step + 1) * width - 2, top + 8)
        pen.rectangle(box, fill=color, outline=color or REUSED)


def _caption(take: Take, baseline: Take, tick: int) -> str:
    from opensora_adacache.metrics.quality import psnr

    done = take.steps_done(tick)
    if done < len(take.times):
        return f"step {done} of {len(take.times)}"
    quality = "" if take is baseline else f", PSNR {psnr(take.frames, baseline.frames):.0f} dB"
    return f"{sum(take.computed)} of {len(take.times)} computed{quality}"


def _image(frame: Tensor) -> Image.Image:
    pixels = frame.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("assets/preview.webp"), help="default: %(default)s")
    return run_command(draw_preview, parser.parse_args(arguments))


def draw_preview(options: argparse.Namespace) -> None:
    """Make the videos, draw the animation and write it."""
    rows = [[make(name, index) for name in RUNS.values()] for index in PROMPTS]
    first, *others = draw(rows)
    first.save(options.output, save_all=True, append_images=others, duration=TICK, loop=0, quality=80, method=6)


if __name__ == "__main__":
    sys.exit(main())
