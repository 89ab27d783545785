"""Print how far the outlines of the small bundled model's circles, squares and triangles are from drawn ones.

python scripts/experiments/measure_outlines.py [--num-prompts 64]

The same measure as that of scripts/evaluate_bundled.py, for comparing the two models: a row of sampled clips, and one
of drawn clips of the same prompts.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.metrics.bootstrap import bootstrap_interval
from opensora_adacache.scenes.outline_error import Outline, read_outlines
from opensora_adacache.schedulers.rectified_flow import RFLOW
from opensora_adacache.shapes.dataset import heldout_prompts, place
from opensora_adacache.shapes.evaluate import ShapesModel
from opensora_adacache.shapes.render import render_frames
from opensora_adacache.shapes.scene import SHAPES, SceneSpec


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-prompts", type=count, default=64)
    parser.add_argument("--steps", type=count, default=30)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--prompt-seed", type=int, default=500)
    parser.add_argument("--batch", type=count, default=8)
    return run_command(measure_outlines, parser.parse_args(arguments))


def measure_outlines(args: argparse.Namespace) -> None:
    """Make the clips, draw others of the same prompts, and print both."""
    torch.set_num_threads(1)
    model = ShapesModel.load()
    scheduler = RFLOW(args.steps, cfg_scale=args.guidance, use_timestep_transform=False)
    prompts = heldout_prompts(args.num_prompts, args.prompt_seed)
    made: list[list[Outline]] = []
    for first in range(0, len(prompts), args.batch):
        chosen = prompts[first : first + args.batch]
        seeds = [args.seed + first + offset for offset in range(len(chosen))]
        clips = model.decode(model.sample_latents([text for text, _ in chosen], seeds, scheduler))
        made += [outlines(clip.numpy(), spec) for (_, spec), clip in zip(chosen, clips, strict=True)]
    drawn = [outlines(draw(spec, args.seed + number), spec) for number, (_, spec) in enumerate(prompts)]
    print("| clips | " + " | ".join(SHAPES) + " | circle: deviation of the radius |")
    print("| --- |" + " --- |" * (len(SHAPES) + 1))
    for title, found in (("sampled", made), ("drawn", drawn)):
        cells = [mean(found, shape, "error") for shape in SHAPES] + [mean(found, "circle", "roundness")]
        print(f"| {title}, {len(found)} clips | " + " | ".join(cells) + " |")


def outlines(clip: np.ndarray, spec: SceneSpec) -> list[Outline]:
    """Read the outlines of a clip [3, F, H, W]."""
    return read_outlines(clip, {thing.colour: thing.shape for thing in spec.objects})


def draw(spec: SceneSpec, seed: int) -> np.ndarray:
    """Return a clip [3, F, H, W] that shows a spec."""
    pixels, _ = render_frames(place(spec, np.random.default_rng(seed)))
    return pixels.transpose(3, 0, 1, 2)


def mean(found: list[list[Outline]], shape: str, name: str) -> str:
    """Return the mean of a measure over the objects of one shape, its interval and their number."""
    pairs = [(getattr(one, name), clip) for clip, row in enumerate(found) for one in row if one.shape == shape]
    if not pairs:
        return ""
    value = bootstrap_interval([measure for measure, _ in pairs], [clip for _, clip in pairs])
    interval = "" if value.low is None or value.high is None else f"{value.low:.3f} to {value.high:.3f}; "
    return f"{value.mean:.3f} ({interval}{len(pairs)} objects)"


if __name__ == "__main__":
    sys.exit(main())
