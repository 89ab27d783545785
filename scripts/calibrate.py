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

from opensora_adacache.commands.main import print_error, run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count


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
    """Find the settings, print and write each. A target that cannot be reached does not stop the others."""
    from tqdm import tqdm

    from opensora_adacache.calibration.results import CalibratedOutput, describe, own_calibrations
    from opensora_adacache.calibration.task import read_task

    task = read_task(options.config, options.speedup, options.psnr, options.policy, options.prompt_path)
    config, num_steps, outputs = task.config, task.config.scheduler.num_sampling_steps, []
    if options.out:
        outputs.append(CalibratedOutput(options.out, config.model.from_pretrained, num_steps, options.command))
    bar = tqdm(desc="batches", disable=not sys.stderr.isatty())
    calibrator, missed = task.load(options.limit, on_run=bar.update), False
    outputs.append(own_calibrations(calibrator.runs.identity, num_steps, options.command))
    for name, search in task.searches(calibrator):
        try:
            found = search()
        except ValueError as error:
            missed = True
            print_error(error, name)
            continue
        print(describe(name, found, num_steps), flush=True)
        for output in outputs:
            output.add({name: found})
    for start in task.starts:
        for line in calibrator.notes(start):
            print(line)
    print(f"apply_cache(…, speedup=X) finds these settings in {outputs[-1].path}")
    return 2 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
