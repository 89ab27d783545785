"""Print what a report about a problem needs: versions, devices, attention backends, memory, and which weights are here.

It reads configs but loads no weights, and it does not use the network. The exit status is 2 if a config that was named
cannot be read.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from opensora_adacache.commands.main import WRONG_INPUT, run_command
from opensora_adacache.commands.parser import OneLineParser
from opensora_adacache.errors.shown import LONGEST_LINE


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("config", nargs="*", help="configs to check (default: those that ship with the package)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(doctor, build_parser().parse_args(arguments))


def doctor(options: argparse.Namespace) -> int:
    """Print the tables as Markdown; return the exit status."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from opensora_adacache.generation.checkup import check_up

    status = 0
    console = Console(width=LONGEST_LINE + 200)  # a row of a Markdown table is one line
    for section in check_up(options.config):
        table = Table(*section.header, box=box.MARKDOWN)
        for row in section.rows:
            table.add_row(*map(Text, row))  # as text: brackets are no markup
        with console.capture() as capture:
            console.print(table)
        # Rich draws the borders that a Markdown table has not as lines of blanks.
        print(f"\n## {section.title}\n", *filter(str.strip, capture.get().splitlines()), sep="\n")
        status = WRONG_INPUT if section.failed else status
    return status
