"""Report on a benchmark or a run: ``opensora-adacache report DIR [--title TEXT] [--num-videos N]``.

Of a benchmark, this reads results.jsonl, comparison.json and the videos in DIR, and writes table.md, .csv, .tex and
index.html there. Of both, it writes contact sheets to DIR/contact_sheets: frames, prompt and schedule of every video.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, path
from opensora_adacache.errors.family import ConfigError, MissingFileError


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(
        description="Write contact sheets of a run, or tables, page and contact sheets of a benchmark."
    )
    parser.add_argument("folder", type=path, metavar="DIR", help="folder of a benchmark (compare) or of a run (sample)")
    parser.add_argument(
        "--title", help="title of the tables and page (default: that of the benchmark), or of a run's contact sheets"
    )
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
    """Write the contact sheets, and of a benchmark the tables and page, and print their paths.

    Raises:
        ConfigError: a flag is for a benchmark, and the folder holds none.
        MissingFileError: the folder holds neither a benchmark nor a run.
    """
    from opensora_adacache.benchmark.report.bench import write_report
    from opensora_adacache.benchmark.report.sheets import write_bench_sheets, write_run_sheets
    from opensora_adacache.benchmark.results import RESULTS
    from opensora_adacache.generation.records import RUN_NAME

    folder = options.folder
    holds_benchmark = (folder / RESULTS).is_file()
    if options.num_videos is not None and not holds_benchmark:
        raise ConfigError(f"--num-videos is for the page of a benchmark, and '{folder}' has no {RESULTS}: leave it out")
    if holds_benchmark:
        write_report(folder, options.num_videos, options.title)
        written = [folder / name for name in ("table.md", "table.csv", "table.tex", "index.html")]
        written += write_bench_sheets(folder)
    elif (folder / RUN_NAME).is_file():
        written = write_run_sheets(folder, options.title)
    else:
        raise MissingFileError(
            f"'{folder}' has neither {RESULTS} nor {RUN_NAME}: name the folder of a benchmark or of a run"
        )
    print(*written, sep="\n")
