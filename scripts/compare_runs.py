"""Compare finished runs: ``python scripts/compare_runs.py BASELINE RUN [RUN …] [--page FILE]``.

This prints a table. With --page, it also writes a page with the videos side by side.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description="Compare finished runs with the first one, the baseline.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders that run_sample_video.sh wrote")
    parser.add_argument("--page", type=Path, help="HTML file to write")
    parser.add_argument("--title", default="Baseline and cached videos", help="title of the page")
    return run_command(compare_runs, parser.parse_args(arguments))


def compare_runs(options: argparse.Namespace) -> None:
    """Print the table and write the page."""
    from opensora_adacache.benchmark.report.page import write_page
    from opensora_adacache.benchmark.report.runs import compare, format_table

    runs = compare(options.folders)
    print(format_table(runs))
    if options.page:
        write_page(options.page, runs, options.title)
        print(f"page: {options.page}")


if __name__ == "__main__":
    sys.exit(main())
