"""The file format of calibrated settings: constants of a model, with their origin.

Calibration writes such files, configs refer to them (`config.calibrated`), and `apply_cache` finds them for a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensora_adacache.caching.checks import check_counts, check_positive, check_text, is_number
from opensora_adacache.errors.shown import shown
from opensora_adacache.presets.json_object import RepeatedKeyError, known_fields, unique_keys

FORMAT_VERSION = 1


@dataclass(frozen=True)
class CalibratedSetting:
    """Settings of one policy, and their origin: the command that found them, or the publication that prints them.

    Attributes:
        section: keys of a cache or MoReg section, including ``type``.
        date: date on which they were found or quoted, in ISO 8601 format.
        command: command that found them, or None for quoted settings.
        source: where quoted settings are printed, or None for settings that were found.
        computed_steps: mean number of computed steps over the calibration prompts.
        psnr: mean PSNR in dB against the uncached videos of the calibration prompts.
        speedup: speedup that they are for: n / computed steps, or of the denoising time where a publication says that.
            None if they have no speedup of their own, such as the profile of a model.
    """

    section: Mapping[str, Any]
    date: str
    command: str | None = None
    source: str | None = None
    computed_steps: float | None = None
    psnr: float | None = None
    speedup: float | None = None

    def __post_init__(self) -> None:
        for name in ("date", "command", "source"):
            check_text(name, getattr(self, name))
        for name in ("computed_steps", "psnr", "speedup"):  # a PSNR of very different videos may be below 0
            if getattr(self, name) is not None and not (name == "psnr" and is_number(self.psnr)):
                check_positive(name, getattr(self, name))
        if not isinstance(self.section, Mapping) or not isinstance(self.section.get("type"), str):
            raise ValueError(f"a section must be an object with a type, got {shown(self.section)}")
        if (self.command is None) == (self.source is None):
            raise ValueError("expected either the command that found it or the source that it is quoted from")


@dataclass(frozen=True)
class CalibratedFile:
    """Settings that belong to one model.

    Attributes:
        model: model that they were found for, as named in a config.
        num_steps: number of sampling steps that they were found with.
        settings: name → settings.
        version: version of this format.
        digest: digest of the model's structure (`identity.digest_of`), if `apply_cache` may find the file by it.
    """

    model: str
    num_steps: int
    settings: Mapping[str, CalibratedSetting]
    version: int = FORMAT_VERSION
    digest: str | None = None

    def __post_init__(self) -> None:
        if self.version != FORMAT_VERSION:
            raise ValueError(f"its format has version {self.version!r}, this package reads version {FORMAT_VERSION}")
        check_text("model", self.model)
        check_text("digest", self.digest)
        check_counts(self, "num_steps")


def read_calibrated(path: Path) -> CalibratedFile:
    """Read a file of calibrated settings.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not hold calibrated settings.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_number_keys)
        settings = {
            name: CalibratedSetting(**known_fields(CalibratedSetting, entry))
            for name, entry in _settings(content).items()
        }
        return CalibratedFile(**known_fields(CalibratedFile, {**content, "settings": settings}))
    except FileNotFoundError:
        raise FileNotFoundError(f"calibrated file '{path}' does not exist") from None
    except (ValueError, RecursionError) as error:
        reason = error if type(error) in (ValueError, RepeatedKeyError) else "not JSON"
        raise ValueError(
            f"'{path}' holds no calibrated settings ({reason}); write it with opensora-adacache calibrate"
        ) from None


def _number_keys(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """Return a JSON object, in codebooks with keys, which are thresholds, as numbers. Settings may be named by one."""
    if any(isinstance(value, dict) for _, value in pairs):
        return unique_keys(pairs)
    try:
        numbers = [(float(key), value) for key, value in pairs]
    except ValueError:
        return unique_keys(pairs)
    return unique_keys(numbers)


def _settings(content: Any) -> dict[str, Any]:
    settings = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise ValueError(f"settings must be an object of names and settings, got {shown(settings)}")
    return settings
