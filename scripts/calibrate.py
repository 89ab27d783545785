"""Calibrate caching policies: ``python scripts/calibrate.py CONFIG (--speedup X | --psnr X) [--out FILE.json]``.

This makes the videos of a few prompts without a cache. Then, for the policy in the config's cache section or the ones
named by --policy, it finds the settings that reach the target speedup (n / computed steps) or the target PSNR in dB
against the uncached videos, on average. It prints each as a cache section. FILE.json stores them with model, steps,
command and date; a config uses them with ``cache=dict(calibrated="FILE.json#NAME")``, from configs/calibrated or any
other path. All settings are also added to the user's own calibrations, where ``apply_cache(…, speedup=X)`` finds them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from opensora_adacache.commands.main import run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count
from opensora_adacache.config import load_config


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="run config, as for run_sample_video.sh")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--speedup", type=float, nargs="+", help="target mean of n / computed steps")
    target.add_argument("--psnr", type=float, nargs="+", help="target mean PSNR in dB against the uncached videos")
    parser.add_argument("--policy", nargs="+", help="policies, named as by 'scripts/compare.py --list'")
    parser.add_argument("--prompt-path", help="file of prompts to use instead of the config's")
    parser.add_argument("--limit", type=count, default=24, help="number of prompts to use (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file to add the settings to")
    options = parser.parse_args(arguments)
    options.command = typed_command("scripts/calibrate.py", arguments)
    return run_command(calibrate, options)


def calibrate(options: argparse.Namespace) -> int:
    """Find the settings, print and write each."""
    from opensora_adacache.calibration.task import check_targets, plan_task
    from opensora_adacache.commands.calibrate import run_task

    targets = check_targets(options.speedup, options.psnr)
    config = load_config(options.config, {"prompt_path": options.prompt_path} if options.prompt_path else {})
    task = plan_task(config, targets, bool(options.psnr), options.policy)
    return run_task(task, options.limit, options.out, options.command)


if __name__ == "__main__":
    sys.exit(main())
