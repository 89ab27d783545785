"""Compare our policies with the published ones at each speedup: ``python scripts/experiments/frontier.py DIR…``.

Each DIR is a folder that scripts/compare.py wrote, with settings named POLICY-SPEEDUPx. For each, this prints a
Markdown table with the mean PSNR and computed steps of every policy, and for our policies the paired difference from
the best published one and from AdaCache, with 95 % bootstrap intervals over prompts. Settings named forecastcache-K
are compared with the setting adacache-fast.
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
    parser.add_argument("folders", type=Path, nargs="+", help="folders that scripts/compare.py wrote")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    return run_command(print_frontier, parser.parse_args(arguments))


def print_frontier(options: argparse.Namespace) -> None:
    """Print the tables and write them."""
    from opensora_adacache.benchmark.frontier import frontier_lines
    from opensora_adacache.benchmark.table_files import write_study

    lines = [line for folder in options.folders for line in frontier_lines(folder)]
    print("\n".join(lines))
    if options.out:
        command = f"python scripts/experiments/frontier.py {' '.join(map(str, options.folders))} --out {options.out}"
        write_study(options.out, "ForecastCache against the published policies", command, lines)


if __name__ == "__main__":
    sys.exit(main())
