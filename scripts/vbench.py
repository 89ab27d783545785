"""Evaluate videos with VBench 0.1.5 in its own environment, one dimension at a time. Finished dimensions are skipped.

``python scripts/vbench.py VIDEOS --env ENV --out OUT [--dimensions NAME …]`` evaluates; OUT/scores.json has the scores.
``python scripts/vbench.py --list-prompts --env ENV`` prints the prompts, one per line, to make the videos from.
``python scripts/vbench.py --fetch --env ENV`` downloads the models to VBENCH_CACHE_DIR (~/.cache/vbench).

Create ENV with ``bash scripts/vbench_env.sh ENV``. The evaluation needs a CUDA device.
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
    parser.add_argument("videos", nargs="?", type=Path, help="folder of {prompt}-{0..4}.mp4")
    parser.add_argument("--env", type=Path, default=Path("vbench-env"), help="VBench's virtual environment")
    parser.add_argument("--full-info", type=Path, help="VBench_full_info.json (default: the one in ENV)")
    parser.add_argument("--out", type=Path, default=Path("outputs/vbench"), help="folder of results")
    parser.add_argument("--dimensions", nargs="+", metavar="NAME", help="default: all 16")
    parser.add_argument("--list-prompts", action="store_true", help="print the prompts and exit")
    parser.add_argument("--fetch", action="store_true", help="download the models of the dimensions and exit")
    return run_command(evaluate, parser.parse_args(arguments))


def evaluate(options: argparse.Namespace) -> None:
    """Print the prompts, or evaluate the missing dimensions and print the scores."""
    from opensora_adacache.benchmark.vbench_run import VBenchRun
    from opensora_adacache.benchmark.vbench_score import DIMENSIONS

    run = VBenchRun(options.env, options.out, options.dimensions or tuple(DIMENSIONS), options.full_info)
    if options.list_prompts:
        print("\n".join(run.prompts()))
        return
    if options.fetch:
        run.fetch()
        return
    if options.videos is None:
        raise ValueError("expected the folder of videos, got none; name it, or pass --list-prompts")
    try:
        print(run.write_scores(run.evaluate(options.videos)))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: run the same command again; finished dimensions are kept in '{options.out}'"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
