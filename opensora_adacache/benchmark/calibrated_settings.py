"""Settings of a benchmark for every policy that a file of calibrated settings holds. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opensora_adacache.caching.registry import COMMAND_NAMES
from opensora_adacache.config.calibrated import FOLDER
from opensora_adacache.presets.calibrated_file import read_calibrated


def calibrated_settings(file: str, speedups: Sequence[float], leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings named POLICY-SPEEDUPx in a file, each held to its budget, in order of their names.

    Each video decides for itself. The budget is the number of steps divided by the speedup, rounded as ForecastCache
    does.

    Args:
        file: name of a file in configs/calibrated.
        speedups: speedups to take.
        leave_out: names of policies on the command line that are left out.
    """
    calibrated = read_calibrated(FOLDER / file)
    names = [f"{policy}-{speedup:g}x" for policy in sorted(set(COMMAND_NAMES) - set(leave_out)) for speedup in speedups]
    return {
        name: {
            "cache": {"calibrated": f"{file}#{name}", "decision": "sample"},
            "budget": round(calibrated.num_steps / float(name.rpartition("-")[2][:-1])),
        }
        for name in names
        if name in calibrated.settings
    }
