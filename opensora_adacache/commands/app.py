"""Serve the web app: a baseline video and a cached one of the same prompt, side by side, while they are made."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser, count, path

BUNDLED = "scenes/sample"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status (see `run_command`)."""
    return run_command(_serve, build_parser().parse_args(arguments))


def _serve(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from opensora_adacache.app.limits import Limits
    from opensora_adacache.app.server import serve
    from opensora_adacache.app.source import Source
    from opensora_adacache.config.keys import text_keys, text_list_keys
    from opensora_adacache.config.options import parse_options

    source = Source(options.config, parse_options(options.cfg_options, text_keys(), text_list_keys()))
    limits = replace(Limits(), waiting=options.queue)
    serve(source, options.host, options.port, limits, options.preview, options.save_dir)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = OneLineParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add(
        "config",
        nargs="?",
        default=BUNDLED,
        help="config, or folder or hub name of a diffusers pipeline (default: the bundled model)",
    )
    add(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 serves other machines (default: %(default)s)"
    )
    add("--port", type=int, default=7860, help="port to listen at; 0 takes a free one (default: %(default)s)")
    add("--queue", type=count, default=8, help="number of pairs of videos that may wait (default: %(default)s)")
    add("--preview", type=count, default=3, metavar="N", help="show a frame every N steps (default: %(default)s)")
    add("--save-dir", type=path, help="keep the videos and records there; without it, they are removed at the end")
    add(
        "--cfg-options",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="set any key of the config, such as model.from_pretrained=FOLDER",
    )
    return parser
