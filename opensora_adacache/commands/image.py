"""Make the reference images that the videos of a config start from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from opensora_adacache.commands import sample


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command: the flags of `sample`."""
    return sample.build_parser(images=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return sample.make(build_parser().parse_args(arguments))
