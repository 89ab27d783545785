"""``comparison.json``: what a benchmark compared, where and when. The runner writes it, the report reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from opensora_adacache.benchmark.paper import PaperRow
from opensora_adacache.config.section import convert
from opensora_adacache.errors.shown import shown
from opensora_adacache.media.files import write_file
from opensora_adacache.presets.json_object import known_fields

BASELINE = "baseline"
DESCRIPTION = "comparison.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SettingRecord:
    """A policy with its settings.

    Attributes:
        name: name that is unique within the benchmark.
        title: name that tables show.
        policy: name of the policy on the command line.
        paper: name of the method in the paper's table.
        oracle: whether the schedule uses knowledge that no policy has.
        budget: mean number of computed steps that the setting is held to, or None.
        held_for: for a setting with a scaled threshold, the setting that is held to its budget with it.
        factor: what the thresholds of that setting were multiplied by.
    """

    name: str
    title: str
    policy: str
    paper: str | None = None
    oracle: bool = False
    budget: float | None = None
    held_for: str | None = None
    factor: float = 1.0


@dataclass(frozen=True)
class ComparisonRecord:
    """Where, when and how the rows were made, and the quoted rows that go with them.

    Attributes:
        config: path of the config.
        command: command that made the rows.
        machine: machine that they were made on.
        date: date in ISO 8601 format.
        torch: version of PyTorch.
        num_prompts: number of prompts, also of those that only earlier runs used.
        num_seeds: number of seeds per prompt.
        title: title of the tables and the page.
        settings: settings in the order of the table, including the baseline.
        paper: title of the quoted table.
        paper_rows: rows of the quoted table.
        paper_source: where the table is printed and what it was measured on.
        lpips_missing: why there is no LPIPS, or None if there is.
        runs: setting → its whole run config as plain values. A resumed benchmark must have the same values.
        prompt_seed: seed that the held-out prompts were drawn with, or None if they were not drawn.
        batch_size: number of videos that were made at once.
        share_steps: whether steps were taken from the uncached run; None in files that do not say it.
        version: version of this format. Files without one have version 1.
    """

    config: str
    command: str
    machine: str
    date: str
    torch: str
    num_prompts: int
    num_seeds: int
    title: str
    settings: tuple[SettingRecord, ...]
    paper: str | None = None
    paper_rows: tuple[PaperRow, ...] = ()
    paper_source: str = ""
    lpips_missing: str | None = None
    runs: Mapping[str, Any] = field(default_factory=dict)
    prompt_seed: int | None = None
    batch_size: int = 1
    share_steps: bool | None = None
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.version != FORMAT_VERSION:
            raise ValueError(f"its format has version {self.version}, this package reads version {FORMAT_VERSION}")
        names = [setting.name for setting in self.settings]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"names of settings must differ, got '{name}' twice")


def read_comparison(path: Path) -> ComparisonRecord:
    """Read what `write_comparison` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not describe a benchmark.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = {
            "settings": tuple(_make(SettingRecord, entry) for entry in _entries(content, "settings")),
            "paper_rows": tuple(_make(PaperRow, entry) for entry in _entries(content, "paper_rows")),
        }
        return _make(ComparisonRecord, {**content, **parts})
    except FileNotFoundError:
        raise FileNotFoundError(
            f"'{path}' does not exist; name a folder that opensora-adacache compare wrote"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError) else error
        raise ValueError(
            f"'{path}' does not describe a comparison ({reason}); run opensora-adacache compare again"
        ) from None


def write_comparison(path: Path, comparison: ComparisonRecord) -> None:
    """Write the file atomically.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(path, (json.dumps(asdict(comparison), indent=1, ensure_ascii=False) + "\n").encode())


def _entries(content: Any, name: str) -> list[Any]:
    entries = content.get(name, []) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"'{name}' must be a list, got {shown(entries)}")
    return entries


def _make(kind: type, content: Any) -> Any:
    """Make a dataclass from a JSON object, ignoring unknown keys."""
    hints = get_type_hints(kind)
    found = known_fields(kind, content)
    return kind(**{name: convert(value, hints[name], f"'{name}'") for name, value in found.items()})
