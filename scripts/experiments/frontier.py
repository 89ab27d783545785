"""Compare our policies with the published ones at each speedup: ``python scripts/experiments/frontier.py DIR…``.

Each DIR is a folder of scripts/compare.py whose settings are named POLICY-SPEEDUPx. Prints a Markdown table for each:
mean PSNR and computed steps of every policy, and the paired difference to the best published one and to AdaCache with
its 95 % bootstrap interval over prompts. Settings forecastcache-K are compared with one named adacache-fast.
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
    parser.add_argument("folders", type=Path, nargs="+", help="folders of scripts/compare.py")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    return run_command(print_frontier, parser.parse_args(arguments))


def print_frontier(options: argparse.Namespace) -> None:
    """Print the tables and write them."""
    from opensora_adacache.benchmark.frontier import frontier_lines
    from opensora_adacache.benchmark.table_files import write_study

    lines = [line for folder in options.folders for line in frontier_lines(folder)]
    print("\n".join(lines))
    if options.out:
        command = f"python scripts/experiments/frontier.py {' '.join(map(str, options.folders))} --out {options.out}"
        write_study(options.out, "Forecasts against the published policies", command, lines)


if __name__ == "__main__":
    sys.exit(main())
