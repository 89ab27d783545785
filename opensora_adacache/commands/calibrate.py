"""Calibrate caching policies: ``opensora-adacache calibrate CONFIG (--speedup X | --psnr X) [--out FILE.json]``.

This makes the videos of a few prompts without a cache. Then, for the policy in the config's cache section or the ones
named by --policy, it finds the settings that reach the target speedup (n / computed steps) or the target PSNR in dB
against the uncached videos, on average. It prints each as a cache section. FILE.json stores them with model, steps,
command and date; a config uses them with ``cache=dict(calibrated="FILE.json#NAME")``, from configs/calibrated or any
other path. All settings are also added to the user's own calibrations, where the app finds them, and
``apply_cache(…, speedup=X)`` those of AdaCache and ForecastCache.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.commands.counting import counting
from opensora_adacache.commands.main import print_error, run_command, typed_command
from opensora_adacache.commands.parser import OneLineParser, count, path
from opensora_adacache.config import load_config
from opensora_adacache.errors.shown import counted

if TYPE_CHECKING:
    from opensora_adacache.calibration.calibrator import Calibrator
    from opensora_adacache.calibration.task import CalibrationTask


def build_parser() -> OneLineParser:
    """Return the parser of the command."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="run config, as for run_sample_video.sh")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--speedup", type=float, nargs="+", help="target mean of n / computed steps")
    target.add_argument("--psnr", type=float, nargs="+", help="target mean PSNR in dB against the uncached videos")
    parser.add_argument(
        "--policy",
        nargs="+",
        help="policies, named as by 'opensora-adacache compare --list' (default: that of the config's cache section)",
    )
    parser.add_argument("--prompt-path", help="file of prompts to use instead of the config's")
    parser.add_argument(
        "--limit", type=count, default=24, help="largest number of prompts to use (default: %(default)s)"
    )
    parser.add_argument("--out", type=path, help="JSON file to add the settings to")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = build_parser().parse_args(arguments)
    options.command = typed_command("scripts/calibrate.py", arguments)
    return run_command(calibrate, options)


def calibrate(options: argparse.Namespace) -> int:
    """Find the settings, print and write each."""
    from opensora_adacache.calibration.task import check_targets, plan_task

    targets = check_targets(options.speedup, options.psnr)
    config = load_config(options.config, {} if options.prompt_path is None else {"prompt_path": options.prompt_path})
    task = plan_task(config, targets, bool(options.psnr), options.policy)
    return run_task(task, options.limit, options.out, options.command)


def run_task(task: CalibrationTask, limit: int, out: Path | None, command: str) -> int:
    """Find the settings of a task, print and write each. A target that cannot be reached does not stop the others.

    Args:
        task: what to find.
        limit: number of videos to measure on.
        out: file to add the settings to, besides the user's own calibrations.
        command: command as typed.

    Returns:
        The exit status.
    """
    from opensora_adacache.caching.registry import type_name
    from opensora_adacache.calibration.results import CalibratedOutput, describe, own_calibrations
    from opensora_adacache.presets.lookup import POLICIES

    num_steps, missed = task.config.num_sampling_steps, False
    outputs = [] if out is None else [CalibratedOutput(out, task.model, num_steps, command)]
    with counting("batches") as count_batch:
        progress = Progress(task, count_batch)
        calibrator = progress.calibrator = task.load(limit, progress)
        outputs.append(own_calibrations(calibrator.runs.identity, num_steps, command))
        num_found, serves_apply_cache = 0, False
        for name, search in task.searches(calibrator):
            try:
                found = search()
            except ValueError as error:
                missed = True
                print_error(error, name)
                continue
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted: {counted(num_found, 'setting')} found, stored in '{outputs[0].path}'; run the "
                    f"command again from {name} on"
                    if num_found
                    else "interrupted before any settings were found"
                ) from None
            print(describe(name, found, num_steps), flush=True)
            for output in outputs:
                output.add({name: found})
            num_found += 1
            serves_apply_cache |= type_name(type(found.cache)) in POLICIES.values()
        for start in task.starts:
            for line in calibrator.notes(start):
                print(line)
    if num_found:
        reader = "apply_cache(…, speedup=X)" if serves_apply_cache else "opensora-adacache app"
        print(f"{reader} finds these settings in {outputs[-1].path}")
    return 2 if missed else 0


class Progress:
    """Counts batches, and says after the first one how long the calibration will take.

    Args:
        task: what is calibrated.
        count_batch: function that adds a batch to those that are shown.

    Attributes:
        calibrator: what calibrates it.
    """

    def __init__(self, task: CalibrationTask, count_batch: Callable[[], object]) -> None:
        self.task = task
        self.calibrator: Calibrator | None = None
        self._count_batch = count_batch
        self._count = 0

    def __call__(self, seconds: float, num_videos: int) -> None:
        """Count a batch of some videos that took so many seconds."""
        calibrator = self.calibrator
        if self._count == 0 and calibrator is not None:
            targets, for_psnr = len(self.task.targets), self.task.for_psnr
            num_runs = sum(calibrator.num_runs(start, targets, for_psnr) for start in self.task.starts)
            total = seconds * num_runs / num_videos
            time = f"{total:.0f} s" if total < 120 else f"{total / 60:.0f} minutes"
            line = f"the first batch took {seconds:.1f} s; all of it costs about {num_runs:.0f} uncached videos, {time}"
            print(line, flush=True)
        self._count += 1
        self._count_batch()
