"""The flags that say which processes make videos, for every command that has them."""

from __future__ import annotations

import argparse

from opensora_adacache.commands.parser import count

# Flag -> key of the config.
EXECUTOR_KEYS = {"executor": "executor.type", "workers": "executor.workers", "ray_address": "executor.address"}


def add_executor_flags(add: argparse._ActionsContainer) -> None:
    """Add the flags to a parser or a group."""
    add.add_argument(
        "--executor",
        choices=("local", "ray"),
        help="let workers pull the videos: processes on this machine, or actors in a Ray cluster",
    )
    add.add_argument("--workers", type=count, help="number of workers; the default is one for each GPU")
    add.add_argument(
        "--ray-address", metavar="HOST:PORT", help="Ray cluster to use; the default is RAY_ADDRESS, or a new one here"
    )


def executor_overrides(options: argparse.Namespace) -> dict[str, object]:
    """Return the keys of the config that these flags set."""
    given = {key: getattr(options, flag) for flag, key in EXECUTOR_KEYS.items()}
    return {key: value for key, value in given.items() if value is not None}
