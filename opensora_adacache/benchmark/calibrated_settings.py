"""Settings of a benchmark for every policy that a file of calibrated settings holds. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opensora_adacache.caching.registry import COMMAND_NAMES
from opensora_adacache.config.calibrated import find_calibrated
from opensora_adacache.presets.calibrated_file import read_calibrated


@dataclass(frozen=True)
class CalibratedSettings:
    """The key ``calibrated`` of a benchmark.

    Attributes:
        file: name of a file in configs/calibrated, or path of another one.
        speedups: speedups to take.
    """

    file: str
    speedups: tuple[float, ...]

    def sections(self) -> dict[str, Any]:
        """Return the settings named POLICY-SPEEDUPx of the file, each held to its budget, in order of their names.

        Each video decides for itself. The budget is the number of steps divided by the speedup, rounded as
        ForecastCache does.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file holds no calibrated settings, or none for one of the speedups.
        """
        calibrated = read_calibrated(find_calibrated(self.file))
        for speedup in self.speedups:
            if not any(f"{policy}-{speedup:g}x" in calibrated.settings for policy in COMMAND_NAMES):
                raise ValueError(
                    f"calibrated.speedups: '{self.file}' has no setting POLICY-{speedup:g}x; it has "
                    f"{', '.join(calibrated.settings)}"
                )
        return {
            name: {
                "cache": {"calibrated": f"{self.file}#{name}", "decision": "sample"},
                "budget": round(calibrated.num_steps / speedup),
            }
            for policy in sorted(COMMAND_NAMES)
            for speedup in self.speedups
            if (name := f"{policy}-{speedup:g}x") in calibrated.settings
        }
