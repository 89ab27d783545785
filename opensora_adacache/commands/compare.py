"""Benchmark caching policies: ``opensora-adacache compare CONFIG [--limit N] [--out DIR]`` or ``--list``.

This makes the videos of a benchmark config (see configs/scenes/compare.py) with every setting, on the same prompts and
seeds, and writes DIR/results.jsonl, table.md, table.csv, table.tex and index.html. Videos that already exist are not
made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from opensora_adacache.commands.counting import counting
from opensora_adacache.commands.executor import add_executor_flags, executor_overrides
from opensora_adacache.commands.main import run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count, path


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", help="benchmark config")
    parser.add_argument("--list", action="store_true", help="print the names of the policies and exit")
    parser.add_argument("--limit", type=count, help="use only the first LIMIT prompts")
    parser.add_argument(
        "--prompt-seed",
        type=int,
        help="seed to draw the held-out prompts with, instead of the config's",
    )
    parser.add_argument("--out", type=path, help="folder of the results (default: outputs/compare/CONFIG[-SEED])")
    parser.add_argument(
        "--estimate", action="store_true", help="make one batch, print how long the missing videos will take, and exit"
    )
    parser.add_argument(
        "--remake",
        nargs="+",
        metavar="NAME",
        default=[],
        help="make the videos of these settings again, after a change; * and ? stand for any characters",
    )
    add_executor_flags(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.list:
        return run_command(list_policies, options)
    if options.config is None:
        parser.error("expected a benchmark config, or --list")
    if options.estimate and options.remake:
        parser.error("--estimate makes nothing again; leave out --remake")
    options.command = typed_command("scripts/compare.py", arguments)
    return run_command(compare, options, errors=(ImportError,))  # matplotlib may be missing


def list_policies(options: argparse.Namespace) -> None:
    """Print the names of the policies."""
    from opensora_adacache.caching.registry import COMMAND_NAMES

    print("\n".join(COMMAND_NAMES))


def compare(options: argparse.Namespace) -> None:
    """Make the missing videos, then write the report."""
    from opensora_adacache.benchmark.config import load_comparison
    from opensora_adacache.benchmark.report.bench import write_report
    from opensora_adacache.benchmark.report.drawing import require_matplotlib
    from opensora_adacache.benchmark.results import RESULTS
    from opensora_adacache.benchmark.runner import ComparisonRun
    from opensora_adacache.generation.folder import warn

    seed = options.prompt_seed
    out = options.out or Path("outputs/compare") / (Path(options.config).stem + ("" if seed is None else f"-{seed}"))
    comparison = load_comparison(options.config, executor_overrides(options), seed)
    if not options.estimate:
        require_matplotlib()  # which draws the report once all videos are made
    run = ComparisonRun(comparison, out, options.limit, options.command, options.remake)
    if run.remade:
        print(f"making {', '.join(run.remade)} again")
    if run.others:
        names = ", ".join(one.name for one in run.others)
        print(f"'{out}' also holds videos of {names}, which '{options.config}' lacks; they stay in the tables")
    if run.rows and run.batch_size_before not in (None, comparison.batch_size):
        print(
            f"'{out}' holds videos that were made {run.batch_size_before} at a time, and batch_size is "
            f"{comparison.batch_size} now: latencies of the two do not compare"
        )
    if options.estimate:
        from opensora_adacache.benchmark.estimate import estimate_line

        print(estimate_line(run))
        return
    total, num_before = run.num_missing, len(run.rows)
    try:
        with counting("videos", total) as count_video:
            run.run(count_video, print, warn)
    except KeyboardInterrupt:
        made = f"{len(run.rows) - num_before} of {total} missing videos are in '{out / RESULTS}'"
        command = "it again without --remake" if options.remake else "the same command again"
        raise KeyboardInterrupt(f"interrupted: {made}; run {command} to continue") from None
    write_report(out)
    print((out / "table.md").read_text(encoding="utf-8"))
    print(f"{len(run.rows) - num_before} videos made; table and page: {out / 'table.md'}, {out / 'index.html'}")
