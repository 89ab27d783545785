"""What the commands that calibrate share: search, say how long it will take, print and write what was found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from opensora_adacache.commands.main import print_error

if TYPE_CHECKING:
    from opensora_adacache.calibration.calibrator import Calibrator
    from opensora_adacache.calibration.task import CalibrationTask


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
    from opensora_adacache.calibration.results import CalibratedOutput, describe, own_calibrations

    num_steps, missed = task.config.num_sampling_steps, False
    outputs = [] if out is None else [CalibratedOutput(out, task.model, num_steps, command)]
    progress = Progress(task)
    calibrator = progress.calibrator = task.load(limit, progress)
    outputs.append(own_calibrations(calibrator.runs.identity, num_steps, command))
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


class Progress:
    """Counts batches in a progress bar, and says after the first one how long the calibration will take.

    Args:
        task: what is calibrated.

    Attributes:
        calibrator: what calibrates it.
    """

    def __init__(self, task: CalibrationTask) -> None:
        from tqdm import tqdm

        self.task = task
        self.calibrator: Calibrator | None = None
        self._bar = tqdm(desc="batches", disable=not sys.stderr.isatty())

    def __call__(self, seconds: float, num_videos: int) -> None:
        """Count a batch of some videos that took so many seconds."""
        calibrator = self.calibrator
        if self._bar.n == 0 and calibrator is not None:
            targets, for_psnr = len(self.task.targets), self.task.for_psnr
            num_runs = sum(calibrator.num_runs(start, targets, for_psnr) for start in self.task.starts)
            total = seconds * num_runs / num_videos
            time = f"{total:.0f} s" if total < 120 else f"{total / 60:.0f} minutes"
            line = f"the first batch took {seconds:.1f} s; all of it costs about {num_runs:.0f} uncached videos, {time}"
            print(line, flush=True)
        self._bar.n += 1
        self._bar.refresh()
