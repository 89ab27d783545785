"""Print how often the bundled model follows held-out prompts.

python scripts/evaluate_shapes.py [--num-prompts 64] [--steps 30] [--guidance 3] [--weights FOLDER] [--output FILE.md]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import date
from pathlib import Path

import torch

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.schedulers.rectified_flow import RFLOW
from opensora_adacache.shapes.dataset import heldout_prompts
from opensora_adacache.shapes.evaluate import WEIGHTS, ShapesModel, accuracy_table, check_clips, failure_lines


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--num-prompts", type=count, default=64, help="number of held-out prompts (default: %(default)s)"
    )
    parser.add_argument("--steps", type=count, default=30, help="denoising steps (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance scale (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first clip; each further clip has the next seed"
    )
    parser.add_argument("--prompt-seed", type=int, default=0, help="seed that the held-out prompts are drawn with")
    parser.add_argument("--batch", type=count, default=8, help="clips to make together (default: %(default)s)")
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS, help="folder of the weights (default: those of the package)"
    )
    parser.add_argument("--output", type=Path, help="Markdown file to write the report to")
    return run_command(evaluate, parser.parse_args(arguments))


def evaluate(args: argparse.Namespace) -> None:
    """Make the clips, print the report and write it."""
    model = ShapesModel.load(args.weights)
    scheduler = RFLOW(args.steps, cfg_scale=args.guidance, use_timestep_transform=False)
    prompts = heldout_prompts(args.num_prompts, args.prompt_seed)
    clips = []
    for first in range(0, len(prompts), args.batch):
        texts = [text for text, _ in prompts[first : first + args.batch]]
        seeds = [args.seed + first + offset for offset in range(len(texts))]
        clips.append(model.decode(model.sample_latents(texts, seeds, scheduler)))
    checked = check_clips(prompts, torch.cat(clips))
    report = "\n".join(
        [
            "# Accuracy of the bundled model on held-out prompts",
            "",
            f"{len(prompts)} prompts, {args.steps} steps, guidance {args.guidance:g}, no timestep transform, seeds "
            f"from {args.seed}. {date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors, "
            f"Python {platform.python_version()}, torch {torch.__version__}.",
            "",
            accuracy_table(checked),
            "",
            "Clips with errors:",
            "",
            *(f"- {line}" for line in failure_lines(checked)),
        ]
    )
    print(report)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(report + "\n")


if __name__ == "__main__":
    sys.exit(main())
