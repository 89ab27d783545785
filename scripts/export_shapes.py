"""Export the weights of the bundled model from its training checkpoints.

python scripts/export_shapes.py [--folder outputs/train_shapes] [--target opensora_adacache/shapes/weights]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser
from opensora_adacache.shapes.export import WEIGHTS, export
from opensora_adacache.shapes.train import Recipe


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("outputs/train_shapes"),
        help="folder of the checkpoints (default: %(default)s)",
    )
    parser.add_argument(
        "--target", type=Path, default=WEIGHTS, help="folder to write the weights to (default: %(default)s)"
    )
    return run_command(export_weights, parser.parse_args(arguments))


def export_weights(args: argparse.Namespace) -> None:
    """Write the weights and print their size."""
    export(Recipe(), args.folder, args.target)
    size = sum(path.stat().st_size for path in args.target.rglob("*") if path.is_file())
    print(f"{args.target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
