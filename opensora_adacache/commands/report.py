"""Rebuild the tables and page of a benchmark: ``opensora-adacache report DIR [--title TEXT] [--num-videos N]``.

This reads results.jsonl, comparison.json and the videos in DIR, and writes table.md, .csv, .tex and index.html there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description="Rebuild the tables and page of a benchmark from its results.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder that compare wrote")
    parser.add_argument("--title", help="title of the tables and page (default: title of the benchmark)")
    parser.add_argument(
        "--num-videos",
        type=int,
        metavar="N",
        help="number of prompts whose videos the page embeds (default: as many as keep it below 5 MB)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.num_videos is not None and options.num_videos < 0:
        parser.error(f"--num-videos must be 0 or more, got {options.num_videos}")
    return run_command(report, options, errors=(ImportError,))  # matplotlib may be missing


def report(options: argparse.Namespace) -> None:
    """Write the tables and page, and print their paths."""
    from opensora_adacache.benchmark.report.bench import write_report

    write_report(options.folder, options.num_videos, options.title)
    for name in ("table.md", "table.csv", "table.tex", "index.html"):
        print(options.folder / name)
