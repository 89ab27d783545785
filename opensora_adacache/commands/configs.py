"""List the configs that ship with the package, or copy them to a folder where they can be edited."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, path
from opensora_adacache.errors.family import WriteError
from opensora_adacache.errors.shown import one_line


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--copy", type=path, metavar="DIR", help="copy all configs and prompt files to DIR")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(configs, build_parser().parse_args(arguments))


def configs(options: argparse.Namespace) -> None:
    """Print the names, or copy the files."""
    from opensora_adacache.config.paths import SHIPPED, shipped_configs

    if options.copy is None:
        print("\n".join(shipped_configs()))
        return
    targets = [options.copy / name for name in ("configs", "assets")]
    for target in targets:
        if target.exists():
            raise FileExistsError(
                f"'{target}' exists already, and copying would replace your changes: name another DIR"
            )
    try:
        for target in targets:
            shutil.copytree(SHIPPED / target.name, target, ignore=_ignored)
    except OSError as error:
        raise WriteError(
            f"cannot copy to '{options.copy}': {error.strerror or one_line(error)}; name another DIR"
        ) from None
    print(f"copied to '{options.copy}'; run one there: opensora-adacache sample configs/scenes/sample_adacache.py")


def _ignored(folder: str, names: list[str]) -> list[str]:
    """Return the files that are no configs, prompts or constants, such as pictures of the documentation."""
    return [name for name in names if Path(name).suffix not in ("", ".py", ".json", ".txt") or name == "__pycache__"]
