"""Train the bundled model. Every stage resumes from its checkpoint.

python scripts/train_shapes.py [--stage spatial|temporal|transformer] [--folder outputs/train_shapes]

Only the transformer stage can run in several processes:
torchrun --nproc_per_node 2 scripts/train_shapes.py --threads 1
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.shapes.train import STAGES, Recipe, spatial_stage, temporal_stage, transformer_stage


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--stage", choices=STAGES, default=STAGES[-1], help="last stage to train (default: %(default)s)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("outputs/train_shapes"),
        help="folder of the checkpoints, from which a run resumes (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=count, default=torch.get_num_threads(), help="CPU threads (default: as many as torch takes)"
    )
    parser.add_argument("--steps", type=count, help="number of steps of the stage (default: the recipe's)")
    return run_command(train, parser.parse_args(arguments))


def train(args: argparse.Namespace) -> None:
    """Train all stages up to the given one."""
    torch.set_num_threads(args.threads)
    recipe = Recipe()
    if args.steps and args.stage == "temporal":
        recipe = replace(recipe, temporal=replace(recipe.temporal, steps=args.steps))
    if args.steps and args.stage == "transformer":
        recipe = replace(recipe, transformer=replace(recipe.transformer, steps=args.steps))
    if "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("gloo")
    stages = {"spatial": spatial_stage, "temporal": temporal_stage, "transformer": transformer_stage}
    stages[args.stage](recipe, args.folder)


if __name__ == "__main__":
    sys.exit(main())
