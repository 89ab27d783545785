"""Calibrate everything that the bundled model ships with, for one number of steps: make calibrated.

python scripts/calibrate_bundled.py STEPS [--policy NAME …] [--out outputs/calibrated]

The settings go to OUT/configs/scenes_STEPS.json, and those that apply_cache finds by a speedup to
OUT/presets/scenes_STEPS.json. Settings that are there already are not looked for again, so the same command continues
where it was interrupted; begin in an empty folder after the weights have changed.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from opensora_adacache.calibration.bundled import NUM_STEPS, POLICIES, calibrate_bundled
from opensora_adacache.commands.main import print_error, run_command
from opensora_adacache.commands.parser import OneLineParser

NAMES = (*POLICIES, "planned")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=int, choices=NUM_STEPS, help="number of sampling steps")
    parser.add_argument("--policy", nargs="+", choices=NAMES, default=NAMES, help="only these policies")
    parser.add_argument("--out", type=Path, default=Path("outputs/calibrated"), help="folder of the settings")
    return run_command(calibrate, parser.parse_args(arguments))


def calibrate(options: argparse.Namespace) -> None:
    """Find all settings that are missing."""
    calibrate_bundled(options.steps, options.out, options.policy, partial(print, flush=True), print_error)


if __name__ == "__main__":
    sys.exit(main())
