"""Train the bundled model from scratch: VAE, text encoder and transformer, within a time limit.

python scripts/train_bundled.py [--minutes 9] [--device cuda] [--folder outputs/train_bundled]

Every stage resumes from its last checkpoint in the folder. The limit includes the time of earlier runs. At every
checkpoint of the last stage, the weights are written to FOLDER/weights in the layout that configs load. With --steps a
run can be repeated exactly; with --stages and another --seed the first stages can be compared between seeds. The stages
temporal and transformer need the spatial stage alone, so that two processes can train them beside each other.
"""

from __future__ import annotations

import argparse
import sys
import time

START = time.monotonic()

from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from opensora_adacache.commands.main import run_command  # noqa: E402
from opensora_adacache.commands.parser import OneLineParser, count  # noqa: E402
from opensora_adacache.scenes.recipe import STAGES, Recipe, train  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes",
        type=float,
        default=Recipe.minutes,
        help="time limit of all stages, including earlier runs (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="device to train on (default here: %(default)s)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("outputs/train_bundled"),
        help="folder of the checkpoints, from which a run resumes, and of the weights (default: %(default)s)",
    )
    parser.add_argument("--size", type=count, default=96, help="height and width in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and clips (default: %(default)s)")
    parser.add_argument("--eager", action="store_true", help="do not compile the transformer's blocks")
    parser.add_argument(
        "--shares", type=float, nargs=2, default=Recipe.shares, help="fractions of the time for the two VAE parts"
    )
    parser.add_argument("--steps", type=int, nargs=3, help="steps of the stages instead of a time limit")
    parser.add_argument(
        "--stages", choices=STAGES, nargs="+", default=STAGES, help="the stages to run (default: all of them)"
    )
    parser.add_argument("--samples", type=int, default=24, help="clips to make at the end for FOLDER/samples.png")
    return run_command(train_bundled, parser.parse_args(arguments))


def train_bundled(args: argparse.Namespace) -> None:
    """Train all stages within the time limit."""
    recipe = Recipe(
        minutes=args.minutes,
        shares=tuple(args.shares),
        steps=tuple(args.steps) if args.steps else None,
        stages=tuple(args.stages),
        size=args.size,
        seed=args.seed,
    )
    train(recipe, args.folder, torch.device(args.device), not args.eager, args.samples, START)


if __name__ == "__main__":
    sys.exit(main())
