"""The command ``opensora-adacache NAME …``: one name for everything that scripts/ does, from any folder.

Each name is that of a module of this package with `build_parser` and `main`, and only the module that is named is
imported, so that help appears at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from opensora_adacache.commands.main import run_command
from opensora_adacache.errors.closest import closest

PROGRAM = "opensora-adacache"

COMMANDS = {
    "sample": "make the videos of a config",
    "image": "make the reference images of a config's videos",
    "compare": "make a benchmark: policies side by side on the same prompts and seeds",
    "report": "draw the contact sheets of a run, or of a benchmark with its tables and page",
    "calibrate": "find a policy's settings for a speedup or a quality",
    "calibrate-pipeline": "the same for a pipeline of diffusers, without a config",
    "plan": "print tokens, FLOPs and cache bytes of a config without loading a model",
    "replay": "predict the schedule of another codebook from a recorded run",
    "configs": "list the configs that ship with the package, or copy them",
    "app": "serve a web app that makes a baseline and a cached video side by side",
    "doctor": "print versions, devices, attention backends, memory, and which weights are missing",
    "completion": "print the shell code that completes these commands",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        return run_command(print, usage())
    if given[0] == "--version":
        from opensora_adacache import __version__

        return run_command(print, f"{PROGRAM} {__version__}")
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        print(f"error: no command '{name}'{closest(name, COMMANDS)}; --help lists them", file=sys.stderr)
        return 2
    sys.argv = [f"{PROGRAM} {name}", *rest]  # argparse and records take the name of the program from there
    try:
        return module_of(name).main(rest)
    except KeyboardInterrupt:  # while modules were imported
        print("interrupted before anything was made", file=sys.stderr)
        return 130


def module_of(name: str) -> Any:
    """Import the module of a command."""
    return import_module(f"opensora_adacache.commands.{name.replace('-', '_')}")


def usage() -> str:
    """Return the list of commands."""
    width = max(map(len, COMMANDS))
    lines = [f"usage: {PROGRAM} COMMAND … (COMMAND --help lists its flags)", ""]
    lines += [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
