"""Find the settings that give a model a speedup: a preset, or else a calibration of the user's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensora_adacache.caching.checks import check_choice, is_number, plain
from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.registry import config_class
from opensora_adacache.errors.shown import one_line
from opensora_adacache.presets.calibrated_file import CalibratedFile, CalibratedSetting, read_calibrated
from opensora_adacache.presets.identity import ModelIdentity
from opensora_adacache.presets.user_folder import calibrations_folder

POLICIES = {"forecastcache": "ForecastCache", "adacache": "AdaCache"}
"""Policies that a speedup can be given for → their names in configs; the first one that has settings is used."""
PRESETS = Path(__file__).parent / "data"

# A profile is stored over fractions of a run. One that was measured with 30 steps was tried with up to 100
# (docs/results/forecast_cache.md).
_PROFILE_RANGE = 4.0
# Settings for 2.24x are those for 2.2x too.
_SPEEDUP_RANGE = 1.05


@dataclass(frozen=True)
class Candidate:
    """Settings of a file that belong to the model.

    Attributes:
        num_steps: number of steps that they were found with.
        setting: the settings and their origin.
    """

    num_steps: int
    setting: CalibratedSetting


@dataclass(frozen=True)
class SpeedupSettings:
    """The settings that a model has for a speedup, by number of steps.

    Attributes:
        model: the model.
        speedup: n / computed steps.
        policy: "forecastcache" or "adacache".
        candidates: settings of that policy for the model, presets before the user's own.
    """

    model: ModelIdentity
    speedup: float
    policy: str
    candidates: tuple[Candidate, ...]

    def at(self, num_steps: int) -> CacheConfig:
        """Return the settings for a run of this many steps; see `section`."""
        return _config(self.section(num_steps))

    def section(self, num_steps: int) -> dict[str, Any]:
        """Return the settings for a run of this many steps as a cache section.

        Raises:
            ValueError: there are none. The message names those that there are, and the command that finds others.
        """
        kept = [one for one in self.candidates if self._allows(one, num_steps)]
        if not kept:
            found = f"; there are {_listed(self.candidates)}"
            raise ValueError(_missing(self.model, self.speedup, self.policy, num_steps, found))
        best = min(kept, key=lambda one: (_distance(one.num_steps, num_steps), self._speedup_distance(one)))
        return self._section(best)

    def at_any(self) -> CacheConfig:
        """Return the settings of some number of steps, for a pipeline whose calls will tell the number."""
        return _config(self._section(min(self.candidates, key=self._speedup_distance)))

    def _allows(self, one: Candidate, num_steps: int) -> bool:
        if self.policy == "forecastcache":
            return _distance(one.num_steps, num_steps) <= math.log(_PROFILE_RANGE) + 1e-9
        return one.num_steps == num_steps

    def _speedup_distance(self, one: Candidate) -> float:
        return 0.0 if one.setting.speedup is None else _distance(one.setting.speedup, self.speedup)

    def _section(self, one: Candidate) -> dict[str, Any]:
        if self.policy == "forecastcache":
            return {**one.setting.section, "speedup": self.speedup, "computed_steps": None, "tolerance": None}
        return dict(one.setting.section)


def find_settings(model: ModelIdentity, speedup: float, policy: str | None = None) -> SpeedupSettings:
    """Return the settings of a model for a speedup.

    A preset has precedence over a calibration of the user's own, for the numbers of steps that it has.

    Args:
        model: the model.
        speedup: n / computed steps, at least 1.
        policy: "forecastcache" or "adacache"; None for the first of them that has settings.

    Raises:
        ValueError: there are none, or a file in the folder of calibrations is damaged.
    """
    speedup = plain(speedup)
    if not is_number(speedup) or speedup < 1:
        raise ValueError(f"speedup must be a number of at least 1, got {speedup!r}")
    if policy is not None:
        check_choice("policy", policy, tuple(POLICIES))
    files = [*_files(PRESETS, model), *_files(calibrations_folder(), model)]
    others: list[Candidate] = []
    for name in [policy] if policy else POLICIES:
        ones = tuple(
            Candidate(file.num_steps, setting)
            for file in files
            for setting in file.settings.values()
            if setting.section["type"] == POLICIES[name]
        )
        kept = tuple(one for one in ones if name == "forecastcache" or _is_for(one.setting, speedup))
        if kept:
            return SpeedupSettings(model, speedup, name, kept)
        others += ones
    there = f"; there are {_listed(others)}" if others else ""
    raise ValueError(_missing(model, speedup, policy, None, there))


def _config(section: Mapping[str, Any]) -> CacheConfig:
    values = {key: value for key, value in section.items() if key != "type"}
    try:
        return config_class(section["type"])(**values)
    except TypeError as error:  # a key or a type that no calibration writes
        raise ValueError(
            f"calibrated settings of {section['type']} cannot be used ({one_line(error)}): calibrate again, or remove "
            f"their file from '{calibrations_folder()}'"
        ) from None


def _files(folder: Path, model: ModelIdentity) -> Iterator[CalibratedFile]:
    for path in sorted(folder.glob("*.json")):
        file = read_calibrated(path)
        if model.fits(file.model, file.digest):
            yield file


def _is_for(setting: CalibratedSetting, speedup: float) -> bool:
    return setting.speedup is not None and _distance(setting.speedup, speedup) <= math.log(_SPEEDUP_RANGE)


def _distance(one: float, other: float) -> float:
    return abs(math.log(one / other))


def _listed(candidates: Iterable[Candidate]) -> str:
    steps: dict[str, set[int]] = {}
    for one in candidates:
        kind, speedup = one.setting.section["type"], one.setting.speedup
        serves_any = kind == POLICIES["forecastcache"] or speedup is None  # a profile serves other speedups too
        what = f"{kind} {'for any speedup' if serves_any else f'at {speedup:g}x'}"
        steps.setdefault(what, set()).add(one.num_steps)
    return ", ".join(f"{what} with {'/'.join(map(str, sorted(steps[what])))} steps" for what in sorted(steps))


def _missing(model: ModelIdentity, speedup: float, policy: str | None, num_steps: int | None, there: str) -> str:
    kind = f"{POLICIES[policy]} " if policy else ""
    steps = f" with {num_steps} steps" if num_steps else ""
    number = num_steps or "N"
    command = model.command.format(policy=policy or "forecastcache", steps=number)
    return (
        f"no {kind}settings of {model.shown} for speedup {speedup:g}{steps}{there}: run {command} --speedup {speedup:g}"
    )
