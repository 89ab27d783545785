"""Show what predictor, decision and corrector add: ``python scripts/experiments/crossed.py DIR [--out FILE.md]``.

DIR is a folder that ``scripts/compare.py configs/scenes/frontier/crossed.py`` wrote. This prints the mean PSNR of every
combination at equal computed steps, and what each part adds on average over the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that scripts/compare.py wrote")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    return run_command(print_crossed, parser.parse_args(arguments))


def print_crossed(options: argparse.Namespace) -> None:
    """Print the tables and write them."""
    from opensora_adacache.benchmark.crossed import crossed_lines
    from opensora_adacache.benchmark.table_files import write_study

    lines = list(crossed_lines(options.folder))
    print("\n".join(lines))
    if options.out:
        command = f"python scripts/experiments/crossed.py {options.folder} --out {options.out}"
        write_study(options.out, "Predictor, decision and corrector", command, lines)


if __name__ == "__main__":
    sys.exit(main())
