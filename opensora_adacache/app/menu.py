"""The policies that an app offers for a model: those with settings for it, by speedup."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensora_adacache.caching.registry import COMMAND_NAMES
from opensora_adacache.config.calibrated import FOLDER
from opensora_adacache.config.paths import locate
from opensora_adacache.config.settings import OpenSoraConfig, RunConfig
from opensora_adacache.config.speedup import identity_of_checkpoint
from opensora_adacache.errors.closest import closest
from opensora_adacache.errors.family import ConfigError
from opensora_adacache.errors.shown import one_line, shown
from opensora_adacache.presets.calibrated_file import CalibratedFile, read_calibrated
from opensora_adacache.presets.identity import ModelIdentity, identity_of_pipeline
from opensora_adacache.presets.lookup import PRESETS, find_settings
from opensora_adacache.presets.user_folder import calibrations_folder

SLOWEST, FASTEST = 1.2, 4.0
OWN = "as in the config"
STATIC = "static"
MOREG = "adacache-moreg"
_SPEEDUP_IN_NAME = re.compile(r"-(\d+(?:\.\d+)?)x$")
_STATIC_INTERVALS = (2, 3, 4)
_COMMON_SPEEDUP = 2.0


@dataclass(frozen=True)
class Choice:
    """Settings that a choice on the page stands for.

    Attributes:
        changes: keys of the config that they override, and values.
        label: policy and speedup, for the page.
        note: one line about what was chosen.
    """

    changes: Mapping[str, Any] = field(repr=False)
    label: str
    note: str


@dataclass(frozen=True)
class Offer:
    """A policy on the menu.

    Attributes:
        name: its name.
        sections: speedup -> section ``cache``.
        section_for: returns the section for any speedup, for policies that have one; None for the others.
    """

    name: str
    sections: Mapping[float, Mapping[str, Any]]
    section_for: Callable[[float], Mapping[str, Any]] | None = None

    def choose(self, speedup: float) -> Choice:
        """Return the settings for a speedup: the nearest ones, if there are none for it."""
        if self.section_for is not None:
            label = f"{self.name} {speedup:g}x"
            return Choice(
                {"cache": self.section_for(speedup)}, label, f"settings for any speedup; {speedup:g}x is used"
            )
        if not self.sections:
            return Choice({}, self.name, "the cache of the config is used; the speedup has no effect")
        nearest = min(self.sections, key=lambda there: abs(math.log(there / speedup)))
        label = f"{self.name} {nearest:g}x"
        there = ", ".join(f"{one:g}x" for one in sorted(self.sections))
        used = "is used" if nearest == speedup else f"is used, the nearest to {speedup:g}x"
        return Choice({"cache": self.sections[nearest]}, label, f"settings for {there}; {nearest:g}x {used}")


class Menu:
    """The policies for a run, in the order of the page.

    Args:
        config: the run.

    Attributes:
        offers: name -> policy.
        missing: one line if the model has no calibrated settings, or "".
    """

    def __init__(self, config: RunConfig) -> None:
        model = _identity(config)
        found = {} if model is None else _calibrated(config, model)
        self.offers: dict[str, Offer] = {}
        if config.cache is not None:
            self.offers[OWN] = Offer(OWN, {})
        self.offers |= {name: found[name] for name in (MOREG, *COMMAND_NAMES) if name in found}
        self.offers[STATIC] = Offer(STATIC, {float(k): {"type": "Static", "interval": k} for k in _STATIC_INTERVALS})
        self.missing = "" if found else _missing(config, model)

    def choose(self, policy: object, speedup: object) -> Choice:
        """Return the settings for what a form holds.

        Raises:
            ConfigError: there is no such policy, or the speedup is out of range.
        """
        if not isinstance(policy, str) or policy not in self.offers:
            raise ConfigError(f"no policy {shown(policy)}{closest(policy, self.offers)}: choose one of the list")
        number = isinstance(speedup, int | float) and not isinstance(speedup, bool)
        if not number or not SLOWEST <= speedup <= FASTEST:  # type: ignore[operator]
            raise ConfigError(f"the speedup must lie in {SLOWEST:g}..{FASTEST:g}, got {shown(speedup)}")
        return self.offers[policy].choose(float(speedup))  # type: ignore[arg-type]


def _identity(config: RunConfig) -> ModelIdentity | None:
    """Return the identity of a run's model, or None if nothing here tells its structure."""
    if isinstance(config, OpenSoraConfig):
        try:
            return identity_of_checkpoint(config.model)
        except ConfigError:
            return None
    return identity_of_pipeline(_source(config), None, None)


def _source(config: RunConfig) -> str:
    section = config.model if isinstance(config, OpenSoraConfig) else config.pipeline  # type: ignore[attr-defined]
    return section.from_pretrained


def _calibrated(config: RunConfig, model: ModelIdentity) -> dict[str, Offer]:
    """Return the policies with calibrated settings, by name."""
    names = {kind: name for name, kind in COMMAND_NAMES.items()}
    sections: dict[str, dict[float, Mapping[str, Any]]] = {}
    moreg: Mapping[str, Any] | None = None
    for file in _files(config, model):
        for name, setting in file.settings.items():
            kind = setting.section["type"]
            if kind == "MoReg":
                moreg = moreg or setting.section
            speedup = setting.speedup or _speedup_of(name)
            if kind in names and speedup is not None and SLOWEST <= speedup <= FASTEST:
                sections.setdefault(names[kind], {}).setdefault(speedup, setting.section)
    if moreg is not None and "adacache" in sections:
        with_moreg: dict[float, Mapping[str, Any]] = {
            speedup: {**section, "moreg": moreg} for speedup, section in sections["adacache"].items()
        }
        sections[MOREG] = with_moreg
    offers = {name: Offer(name, found) for name, found in sections.items()}
    steps = config.num_sampling_steps
    try:
        find_settings(model, FASTEST, "forecastcache").section(steps)
    except ValueError:
        return offers
    anything = Offer("forecastcache", {}, lambda speedup: find_settings(model, speedup, "forecastcache").section(steps))
    return {**offers, "forecastcache": anything}


def _files(config: RunConfig, model: ModelIdentity) -> Iterator[CalibratedFile]:
    """Yield the files with settings for this model and number of steps: presets first, then the user's own."""
    for folder in (PRESETS, calibrations_folder(), FOLDER):
        for path in sorted(folder.glob("*.json")):
            file = read_calibrated(path)
            # files of configs/calibrated name the model as configs do, without a digest
            same = folder == FOLDER and locate(file.model) == Path(_source(config))
            if file.num_steps == config.num_sampling_steps and (same or model.fits(file.model, file.digest)):
                yield file


def _speedup_of(name: str) -> float | None:
    """Return the speedup that the name of a setting ends with.

    >>> _speedup_of("teacache-2.2x"), _speedup_of("moreg")
    (2.2, None)
    """
    found = _SPEEDUP_IN_NAME.search(name)
    return float(found[1]) if found else None


def _missing(config: RunConfig, model: ModelIdentity | None) -> str:
    """Return one line that says which settings are missing, and which command finds some."""
    if model is None:
        return f"no calibrated settings: the structure of '{_source(config)}' is not known before it is downloaded"
    try:
        find_settings(model, _COMMON_SPEEDUP).section(config.num_sampling_steps)
    except ValueError as error:
        return one_line(error)
    return ""
