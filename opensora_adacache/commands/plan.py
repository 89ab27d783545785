"""Print the costs of runs without loading a model: tokens, TFLOPs and the memory of the cache.

opensora-adacache plan CONFIG [CONFIG ...] [--text-tokens N] [--json]

A run config gives one row. A benchmark config gives one row for the baseline and one per setting, beside the figures of
the paper's table if it names one; if it names `devices`, a second table with a row per setting and number of devices.
Operators run on the meta device, so this needs no weights and takes seconds. Figures are per video and include both
guidance branches. `opensora_adacache.costs.flops` defines what counts as a FLOP.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, path


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="+", type=path, help="config file of a run or a benchmark")
    parser.add_argument(
        "--text-tokens",
        type=int,
        metavar="N",
        help="text tokens that cross-attention reads (default: the maximum length of a prompt; 20 beside a table of "
        "the paper, because its prompts are short)",
    )
    parser.add_argument(
        "--link-gb",
        type=float,
        metavar="GB",
        help="GB per second that a device can send, for benchmarks with devices (default: 300, NVLink of an A100)",
    )
    parser.add_argument(
        "--tflops",
        type=float,
        help="TFLOPs per second of a device, for the same (default: those that give the baseline the paper's latency)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(plan, build_parser().parse_args(arguments))


def plan(options: argparse.Namespace) -> None:
    """Print the costs."""
    from opensora_adacache.benchmark.cost_table import plan_costs

    link = None if options.link_gb is None else options.link_gb * 1e9
    rate = None if options.tflops is None else options.tflops * 1e12
    rows, text = plan_costs(options.config, options.text_tokens, link, rate)
    print(json.dumps(rows, indent=2) if options.json else text)
