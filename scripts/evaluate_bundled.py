"""Print how often the bundled model does what held-out prompts ask, and how well things keep their shapes.

python scripts/evaluate_bundled.py WEIGHTS [--num-prompts 256] [--steps 30] [--results FILE.jsonl] [--out FILE.md]

Results are written to a file as they come; the same command continues where it was interrupted. --out also writes a
page with the report and the clips that differ from their prompts.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

import torch

from opensora_adacache.benchmark.making import describe_machine
from opensora_adacache.benchmark.table_files import write_study
from opensora_adacache.commands.main import run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count, path
from opensora_adacache.scenes.accuracy import failure_lines, report
from opensora_adacache.scenes.evaluate import SOURCES, Settings, digest, evaluate, maker


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="folder with transformer, vae, text_encoder and tokenizer")
    parser.add_argument(
        "--num-prompts", type=count, default=256, help="number of held-out prompts (default: %(default)s)"
    )
    parser.add_argument(
        "--source", choices=SOURCES, default="model", help="sampled clips, drawn ones, or through the VAE"
    )
    parser.add_argument("--steps", type=count, default=30, help="denoising steps (default: %(default)s)")
    parser.add_argument(
        "--guidance", type=float, default=Settings.guidance, help="guidance scale (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first clip; each further clip has the next seed"
    )
    parser.add_argument("--prompt-seed", type=int, default=0, help="seed that the held-out prompts are drawn with")
    parser.add_argument("--batch", type=count, default=8, help="clips to make together (default: %(default)s)")
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--results", type=Path, default=Path("outputs/evaluate_bundled/results.jsonl"), help="file of the results"
    )
    parser.add_argument("--out", type=path, help="Markdown file to write the report to")
    options = parser.parse_args(arguments)
    options.command = typed_command("scripts/evaluate_bundled.py", arguments)
    return run_command(evaluate_bundled, options)


def evaluate_bundled(args: argparse.Namespace) -> None:
    """Make and read the clips, and print the report."""
    torch.set_num_threads(args.threads)
    settings = Settings(
        digest(args.weights), args.source, args.steps, args.guidance, args.prompt_seed, args.seed, args.batch
    )
    rows = evaluate(
        settings,
        args.num_prompts,
        args.results,
        maker(settings, args.weights),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    text = report(rows)
    print(text)
    if args.out:
        made = (
            f"{len(rows)} prompts, {args.steps} steps, guidance {args.guidance:g}, seeds from {args.seed}. "
            f"{date.today()}, {describe_machine()}, torch {torch.__version__}."
        )
        title = "The bundled model on held-out prompts"
        write_study(args.out, title, args.command, [made, "", text, "", *failure_lines(rows)])


if __name__ == "__main__":
    sys.exit(main())
