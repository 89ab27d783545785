"""Some of the rows of a call of STDiT3."""

from __future__ import annotations

from typing import Any

from opensora_adacache.adapters.block_calls import rows_of_argument
from opensora_adacache.caching.guidance.branches import Rows
from opensora_adacache.models.stdit3 import STDiT3


def rows_of_call(model: STDiT3, arguments: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """Return the arguments of a call of `STDiT3.forward`, by name, restricted to some rows."""
    num_rows = len(arguments["x"])
    some = {name: rows_of_argument(value, rows, num_rows) for name, value in arguments.items()}
    conditioning = arguments.get("conditioning")
    if conditioning is not None:
        some["conditioning"] = conditioning.part(rows, slice(0, conditioning.grid[0]))
    return some
