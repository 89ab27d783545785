"""Compare our policies with the published ones at each speedup: ``python scripts/experiments/frontier.py DIR…``.

Each DIR is a folder that scripts/compare.py wrote, with settings named POLICY-SPEEDUPx. This prints a Markdown table of
ForecastCache beside the best other policy at each number of steps and speedup, and one of every policy at equal
computed steps, with paired differences whose intervals hold for all of them at once. Settings named forecastcache-K are
compared with the setting adacache-fast.
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

    lines = list(frontier_lines(options.folders))
    print("\n".join(lines))
    if options.out:
        command = f"python scripts/experiments/frontier.py {' '.join(map(str, options.folders))} --out {options.out}"
        write_study(options.out, "ForecastCache against the published policies", command, lines)


if __name__ == "__main__":
    sys.exit(main())
