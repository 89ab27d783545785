"""Write docs/results/adapter_matrix.md: what works with which video transformer, from the tests' own table.

python scripts/experiments/adapter_matrix.py [--table tests/test_adapters/matrix.json] [--page PAGE]

In the table, each column maps models to a cell, and "*" to the cell of all other models. A cell is one of
{"tested": test}, which may add {"as": how}, {"refused": error, "by": test} and {"not applicable": reason}.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from opensora_adacache.commands.main import run_command
from opensora_adacache.commands.parser import OneLineParser
from opensora_adacache.errors.family import RecordError

ROOT = Path(__file__).parents[2]
KINDS = ("tested", "refused", "not applicable")
HEAD = """# What works with which video transformer

Made by `python scripts/experiments/adapter_matrix.py` from `tests/test_adapters/matrix.json`, which the tests read.
The models are those of diffusers {version}. A number leads to the test, the error or the reason below the table.
[adapters.md](../guide/adapters.md) explains the columns.

"""


def cell_of(table: dict[str, Any], column: str, model: str) -> dict[str, str]:
    """Return the cell of a model in a column.

    Raises:
        RecordError: the cell is missing, or is of an unknown kind.
    """
    cells = table["columns"][column]
    cell = cells.get(model, cells.get("*", {}))
    if sum(kind in cell for kind in KINDS) != 1 or "refused" in cell and "by" not in cell:
        raise RecordError(f"the cell '{column}' of {model} must be one of {', '.join(KINDS)}, got {cell}: fill it in")
    return cell


def note_of(cell: dict[str, str]) -> tuple[str, str]:
    """Return a cell's kind and the text of its note."""
    if "tested" in cell:
        return f"tested: {cell['as']}" if "as" in cell else "tested", f"`{cell['tested']}`"
    if "refused" in cell:
        return "refused", f"“{cell['refused']}” (`{cell['by']}`)"
    return "n/a", cell["not applicable"]


def page(table: dict[str, Any]) -> str:
    """Return the page in Markdown."""
    columns = list(table["columns"])
    lines = [f"| model | class | {' | '.join(columns)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    numbers: dict[tuple[str, str], int] = {}
    for model, class_name in table["models"].items():
        cells = []
        for column in columns:
            kind, note = note_of(cell_of(table, column, model))
            number = numbers.setdefault((kind, note), len(numbers) + 1)
            cells.append(f"{kind} ({number})")
        lines.append(f"| {model} | `{class_name}` | {' | '.join(cells)} |")
    notes = [f"{number}. {kind}: {note}" for (kind, note), number in numbers.items()]
    return HEAD.format(version=table["diffusers"]) + "\n".join([*lines, "", "## Notes", "", *notes, ""])


def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=ROOT / "tests/test_adapters/matrix.json", help="the tests' table")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results/adapter_matrix.md", help="the page to write")
    return run_command(write, parser.parse_args(argv))


def write(options: argparse.Namespace) -> None:
    """Write the page."""
    table = json.loads(options.table.read_text(encoding="utf-8"))
    options.page.write_text(page(table), encoding="utf-8")
    print(f"wrote {options.page}")


if __name__ == "__main__":
    sys.exit(main())
