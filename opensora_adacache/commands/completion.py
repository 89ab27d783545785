"""Print the code that lets a shell complete commands and flags.

bash:  eval "$(opensora-adacache completion bash)"    in ~/.bashrc
zsh:   opensora-adacache completion zsh > DIR/_opensora-adacache    with DIR in $fpath
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from opensora_adacache.commands.cli import COMMANDS, PROGRAM, module_of
from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser
from opensora_adacache.errors.family import ConfigError

SHELLS = ("bash", "zsh")


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shell", choices=SHELLS, help="shell that the code is for")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(completion, build_parser().parse_args(arguments))


def completion(options: argparse.Namespace) -> None:
    """Print the code, made by shtab from the parsers of all commands."""
    try:
        import shtab
    except ImportError:
        raise ConfigError("completion needs shtab: run pip install 'opensora-adacache[completion]'") from None
    whole = argparse.ArgumentParser(prog=PROGRAM)
    commands = whole.add_subparsers()
    for name, text in COMMANDS.items():
        parser = module_of(name).build_parser()
        commands.add_parser(name, help=text, description=text, parents=[parser], add_help=False)
    print(shtab.complete(whole, options.shell))
