"""Everything that is calibrated on the bundled model, for each number of steps that its benchmarks have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from opensora_adacache.caching.adacache import AdaCacheConfig
from opensora_adacache.caching.codebook import OPEN_SORA_CODEBOOKS, Codebook
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.moreg import MoRegConfig
from opensora_adacache.caching.policies.planned import PlannedConfig
from opensora_adacache.calibration.calibrator import Calibrator, starting_settings
from opensora_adacache.calibration.codebooks import Codebooks
from opensora_adacache.calibration.results import CalibratedOutput, cache_section, describe
from opensora_adacache.calibration.task import CalibrationTask
from opensora_adacache.config import load_config
from opensora_adacache.presets.calibrated_file import CalibratedSetting, read_calibrated

NUM_STEPS = (30, 50, 100)
SPEEDUPS = (1.5, 2.2, 3.0)
# Numbers of prompts to calibrate on with 30, 50 and 100 steps. Searches that make hundreds of videos get few of them,
# and what replays one set of recorded videos gets many.
FEW, SOME, MANY = (3, 2, 1), (5, 4, 3), (24, 16, 12)
POLICIES = {
    **dict.fromkeys(("adacache", "forecastcache", "l2p"), MANY),
    **dict.fromkeys(("dpcache", "easycache", "fbcache", "lemica", "magcache", "seacache", "teacache"), SOME),
    **dict.fromkeys(("meancache", "navicache", "sencache", "dicache", "bwcache", "unshifted-ertacache"), SOME),
    **dict.fromkeys(("hicache", "foca", "dmd", "taylorseer", "spectrum", "tafc", "gcache"), FEW),
    **dict.fromkeys(("budcache", "recache"), FEW),
}
# Of these, apply_cache finds the settings by a speedup.
PRESETS = ("adacache", "forecastcache")
# The cosine distance is about half of the squared distance of normalized features.
COSINE_CODEBOOK: Codebook = {threshold**2 / 2: rate for threshold, rate in OPEN_SORA_CODEBOOKS["fast"].items()}
# Milder than the published power of 8 and weight of 10, because this model's motion spreads wider.
MOREG = MoRegConfig(steps=(4 / 30, 26 / 30), power=2, gradient_weight=1)


@dataclass(frozen=True)
class Wanted:
    """Settings to find.

    Attributes:
        name: name in the file.
        policy: name of the policy on the command line.
        start: settings to start from.
        speedup: the target.
        limit: number of prompts to calibrate on.
    """

    name: str
    policy: str
    start: CacheConfig
    speedup: float
    limit: int


def list_wanted(num_steps: int) -> list[Wanted]:
    """Return the settings to find for a number of steps."""
    place = NUM_STEPS.index(num_steps)
    found = [
        Wanted(f"{policy}-{speedup:g}x", policy, starting_settings(policy), speedup, limits[place])
        for policy, limits in POLICIES.items()
        for speedup in SPEEDUPS
    ]
    many = MANY[place]
    fast: Any = starting_settings("adacache")
    found.append(Wanted("adacache-2.5x", "adacache", fast, 2.5, many))
    if num_steps == 30:
        forecast: Any = starting_settings("forecastcache")
        l2, cosine = replace(fast, metric="l2"), AdaCacheConfig(codebook=COSINE_CODEBOOK, metric="cosine")
        to_tolerance = replace(forecast, speedup=None, tolerance=1.0)
        found += [
            Wanted("forecastcache-3.75x", "forecastcache", forecast, 3.75, many),
            Wanted("forecastcache-tolerance", "forecastcache", to_tolerance, 3.6, many),
            Wanted("adacache-2.5x-l2", "adacache", l2, 2.5, many),
            Wanted("adacache-2.5x-cosine", "adacache", cosine, 2.5, many),
            Wanted("planned-2.2x", "planned", PlannedConfig(steps=(1,)), 2.2, many),
        ]
    return found


class Output:
    """The settings of one number of steps: a file for configs, and one with presets for `apply_cache`.

    Args:
        folder: folder of both files.
        num_steps: number of steps.
        model: folder of the transformer.
    """

    def __init__(self, folder: Path, num_steps: int, model: str) -> None:
        self.num_steps, self.model = num_steps, model
        self.path, self.presets = (folder / kind / f"scenes_{num_steps}.json" for kind in ("configs", "presets"))
        self.command = f"python scripts/calibrate_bundled.py {num_steps}"

    @property
    def settings(self) -> Mapping[str, CalibratedSetting]:
        """The settings found so far."""
        return read_calibrated(self.path).settings if self.path.exists() else {}

    def find(self, wanted: Wanted, calibrator: Calibrator) -> str:
        """Find settings and add them; return a description of them.

        Raises:
            ValueError: the policy cannot reach the speedup.
        """
        found = calibrator.for_speedup(wanted.start, wanted.speedup)
        if self.num_steps == 30 and wanted.name == "adacache-2.5x":
            self.derive(found.cache, calibrator)
        digests: dict[Path, str | None] = {self.path: None}
        if wanted.policy in PRESETS and wanted.name == f"{wanted.policy}-{wanted.speedup:g}x":
            digests[self.presets] = calibrator.runs.identity.digest
        for path, digest in digests.items():
            CalibratedOutput(path, self.model, self.num_steps, self.command, digest).add({wanted.name: found})
        return describe(wanted.name, found, self.num_steps)

    def derive(self, fast: Any, calibrator: Calibrator) -> None:
        """Add what follows from a fast codebook: codebooks with other rates, and MoReg for the model's motion."""
        sections = {
            f"adacache-2.5x-{name}": cache_section(
                replace(fast, codebook=with_rates(fast.codebook, OPEN_SORA_CODEBOOKS[name]))
            )
            for name in ("medium", "slow")
        }
        codebooks = calibrator.kind(fast)
        assert isinstance(codebooks, Codebooks)
        center = round(median(score for scores in codebooks.motion(fast) for score in scores), 3)
        sections["moreg"] = {"type": "MoReg", **asdict(replace(MOREG, center=center))}
        today = str(date.today())
        new = {name: CalibratedSetting(section, today, command=self.command) for name, section in sections.items()}
        CalibratedOutput(self.path, self.model, self.num_steps, self.command).store(new)


def with_rates(thresholds: Codebook, rates: Codebook) -> Codebook:
    """Return a codebook with the thresholds of one and the rates of another of the same length."""
    return dict(zip(thresholds, rates.values(), strict=True))


def calibrate_bundled(
    num_steps: int,
    folder: Path,
    policies: Collection[str],
    say: Callable[[str], object],
    on_error: Callable[[Exception, str], object],
) -> None:
    """Find all settings that are missing. One that cannot be reached does not stop the others.

    Args:
        num_steps: one of ``NUM_STEPS``.
        folder: folder of the settings.
        policies: names of policies on the command line.
        say: called with a description of what was found, one setting at a time.
        on_error: called with the error of settings that cannot be reached, and their name.
    """
    config = load_config(f"scenes/frontier/sample_{num_steps}", {"prompt_path": "assets/scenes/calibration.txt"})
    task = CalibrationTask(config, (), SPEEDUPS, for_psnr=False)
    output = Output(folder, num_steps, task.model)
    found = output.settings
    missing = [one for one in list_wanted(num_steps) if one.name not in found and one.policy in policies]
    for limit in sorted({wanted.limit for wanted in missing}):
        calibrator = task.load(limit, lambda seconds, videos: None)
        for wanted in (one for one in missing if one.limit == limit):
            try:
                say(output.find(wanted, calibrator))
            except ValueError as error:
                on_error(error, wanted.name)
