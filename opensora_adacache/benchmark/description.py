"""What a comparison says of itself beside its rows: ``comparison.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from opensora_adacache.benchmark.paper import PaperRow
from opensora_adacache.media.files import write_file


@dataclass(frozen=True)
class Setting:
    """A policy with its settings.

    Attributes:
        name: unique within the comparison.
        title: for tables.
        policy: name on the command line.
        paper: name of its row in the paper's table.
        oracle: whether it knows what no policy could know.
    """

    name: str
    title: str
    policy: str
    paper: str | None = None
    oracle: bool = False


@dataclass(frozen=True)
class Comparison:
    """Where, when and how the rows were made, and what they stand beside.

    Attributes:
        config: path of the config.
        command: that made the rows.
        machine: that they were made on.
        date: ISO 8601.
        torch: version.
        num_prompts: prompts.
        num_seeds: seeds of each prompt.
        title: of tables and page.
        settings: in the order of the table; the baseline among them.
        paper: title of the quoted table.
        paper_rows: of that table.
        paper_source: where it is printed and on what it was measured.
        lpips_missing: why there is no LPIPS; None if there is.
    """

    config: str
    command: str
    machine: str
    date: str
    torch: str
    num_prompts: int
    num_seeds: int
    title: str
    settings: tuple[Setting, ...]
    paper: str | None = None
    paper_rows: tuple[PaperRow, ...] = ()
    paper_source: str = ""
    lpips_missing: str | None = None

    def __post_init__(self) -> None:
        names = [setting.name for setting in self.settings]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"names of settings must differ, got '{name}' twice")


def read_comparison(path: Path) -> Comparison:
    """Read what `write_comparison` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = {
            "settings": tuple(_make(Setting, entry) for entry in content["settings"]),
            "paper_rows": tuple(_make(PaperRow, entry) for entry in content.get("paper_rows") or ()),
        }
        return _make(Comparison, {**content, **parts})
    except FileNotFoundError:
        raise FileNotFoundError(f"'{path}' does not exist; name a folder that scripts/compare.py wrote") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = "not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else error
        raise ValueError(f"'{path}' does not describe a comparison ({reason}); run scripts/compare.py again") from None


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write it, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(path, (json.dumps(asdict(comparison), indent=1, ensure_ascii=False) + "\n").encode())


def _make(kind: type, content: Any) -> Any:
    """Make a dataclass from an object of JSON; keys that it does not know are left to others."""
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {content!r}")
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in content.items() if key in known})
