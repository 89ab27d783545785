"""Compare finished runs: ``python scripts/compare_runs.py BASELINE RUN [RUN …] [--page FILE]``.

Prints a table; with --page also writes a page with the videos side by side.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description="Compare finished runs with the first one, the baseline.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders that run_sample_video.sh wrote")
    parser.add_argument("--page", type=Path, help="write an HTML page here")
    parser.add_argument("--title", default="Baseline and cached videos", help="title of the page")
    options = parser.parse_args(arguments)
    from opensora_adacache.benchmark.report.page import write_page
    from opensora_adacache.benchmark.report.runs import compare, format_table

    try:
        runs = compare(options.folders)
        print(format_table(runs))
        if options.page:
            write_page(options.page, runs, options.title)
            print(f"page: {options.page}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
