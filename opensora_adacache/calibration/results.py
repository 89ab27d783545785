"""Results of a calibration: as a config section, as text, and in a file of calibrated settings."""

from __future__ import annotations

import pprint
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import Any

from opensora_adacache.caching.contract import CacheConfig
from opensora_adacache.caching.registry import type_name
from opensora_adacache.config.calibrated import write_calibrated
from opensora_adacache.media.files import check_writable, one_writer
from opensora_adacache.presets.calibrated_file import CalibratedFile, CalibratedSetting, read_calibrated
from opensora_adacache.presets.identity import ModelIdentity
from opensora_adacache.presets.user_folder import calibration_path


@dataclass(frozen=True)
class Found:
    """Settings found by a calibration.

    Attributes:
        cache: settings of the policy.
        computed_steps: mean number of computed steps over the calibration prompts.
        psnr: mean PSNR in dB over the calibration prompts if the target was a PSNR.
        speedup: the speedup, if that was the target.
    """

    cache: CacheConfig
    computed_steps: float
    psnr: float | None = None
    speedup: float | None = None


def cache_section(cache: CacheConfig) -> dict[str, Any]:
    """Return settings as the cache section of a config, without default values."""
    kept = {f.name: getattr(cache, f.name) for f in fields(cache) if getattr(cache, f.name) != f.default}
    plain = {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in kept.items()
    }
    return {"type": type_name(type(cache)), **plain}


def describe(name: str, found: Found, num_steps: int) -> str:
    """Return a line that summarizes the result, followed by the section."""
    quality = "" if found.psnr is None else f", {found.psnr:.2f} dB"
    line = f"{name}: {found.computed_steps:.2f} of {num_steps} steps ({num_steps / found.computed_steps:.2f}x){quality}"
    section = pprint.pformat(cache_section(found.cache), width=110, compact=True, sort_dicts=False)
    return f"{line}\n  cache = {section}"


@dataclass(frozen=True)
class CalibratedOutput:
    """A file of calibrated settings that a calibration adds to.

    Attributes:
        path: path of the file. Existing settings with other names are kept.
        model: model that the settings belong to.
        num_steps: number of steps that they were found with.
        command: command as typed.
        digest: digest of the model's structure, if `apply_cache` is to find the settings by it.

    Raises:
        OSError: the file cannot be written.
        ValueError: the path does not end in .json, or the file is for another model or number of steps.
    """

    path: Path
    model: str
    num_steps: int
    command: str
    digest: str | None = None

    def __post_init__(self) -> None:
        if self.path.suffix != ".json":
            raise ValueError(f"--out must name a .json file, got '{self.path}'")
        check_writable(self.path)
        if self.path.exists():
            old = read_calibrated(self.path)
            if (old.model, old.num_steps) != (self.model, self.num_steps):
                raise ValueError(
                    f"'{self.path}' holds settings of '{old.model}' for {old.num_steps} steps, not of '{self.model}' "
                    f"for {self.num_steps}; choose another --out"
                )

    def add(self, found: Mapping[str, Found]) -> None:
        """Add settings under a name to those in the file.

        Raises:
            OSError: the file cannot be written.
        """
        today = str(date.today())
        self.store(
            {
                name: CalibratedSetting(
                    cache_section(one.cache),
                    today,
                    command=self.command,
                    computed_steps=one.computed_steps,
                    psnr=one.psnr,
                    speedup=round(self.num_steps / one.computed_steps, 3) if one.speedup is None else one.speedup,
                )
                for name, one in found.items()
            }
        )

    def store(self, new: Mapping[str, CalibratedSetting]) -> None:
        """Add settings with their origin under a name to those in the file.

        Raises:
            OSError: the file cannot be written.
        """
        with one_writer(self.path.parent):  # calibrations of other policies may add to the file, too
            old = read_calibrated(self.path).settings if self.path.exists() else {}
            write_calibrated(self.path, CalibratedFile(self.model, self.num_steps, {**old, **new}, digest=self.digest))


def own_calibrations(model: ModelIdentity, num_steps: int, command: str) -> CalibratedOutput:
    """Return the file of the user's own calibrations in which `apply_cache` finds settings of a model by a speedup."""
    name, digest = model.name or "STDiT3", model.digest or ""
    return CalibratedOutput(calibration_path(name, digest, num_steps), name, num_steps, command, digest)
