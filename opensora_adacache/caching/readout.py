"""Reads the measurements of a computed step from the device to the host in one synchronization."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Readout:
    """Measurements of a computed step as numbers. Non-finite numbers become 0, and `broken_rows` lists their rows.

    Attributes:
        probes: measurements of the policy, [probes][r][sums].
        residual: measurements of the stack residual, [r][sums].
        timesteps: timesteps seen since the last readout.
        broken_rows: positions in 0..r−1 of the rows with non-finite measurements or output.
    """

    probes: list[list[list[float]]]
    residual: list[list[float]]
    timesteps: list[float]
    broken_rows: set[int]


def read(
    probes: Sequence[Tensor], residual: Tensor | None, output: Tensor | None, timesteps: Sequence[Tensor]
) -> Readout:
    """Read the measurements of a step to the host.

    Args:
        probes: measurements of the policy, [r, sums] each.
        residual: measurements of the stack residual, [r, sums].
        output: sum of the model's output for each row, [r].
        timesteps: [1] each.
    """
    sums = [*probes, *([] if residual is None else [residual]), *([] if output is None else [output[:, None]])]
    parts = [tensor.flatten().float() for tensor in (*sums, *timesteps)]
    numbers = iter(torch.cat(parts).tolist() if parts else [])
    broken: set[int] = set()
    tables = [_table(numbers, tensor.shape, broken) for tensor in sums]
    found = tables[len(probes)] if residual is not None else []
    return Readout(tables[: len(probes)], found, list(numbers), broken)


def _table(numbers: Iterator[float], shape: torch.Size, broken: set[int]) -> list[list[float]]:
    """Take the numbers of a tensor [r, sums] and note the rows with non-finite ones."""
    table = []
    for row in range(shape[0]):
        values = [next(numbers) for _ in range(shape[1])]
        if not all(map(math.isfinite, values)):
            broken.add(row)
            values = [value if math.isfinite(value) else 0.0 for value in values]
        table.append(values)
    return table
