"""What a computed step brings from the device to the host, in one synchronisation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Readout:
    """Measurements of a computed step as numbers; those that are not finite are 0, and `broken_rows` names their rows.

    Attributes:
        probes: of the policy, [probes][r][sums].
        residual: of the stack residual, [r][sums].
        timesteps: those seen since the last readout.
        broken_rows: places in 0..r−1 of the rows whose measurements or output are not finite.
    """

    probes: list[list[list[float]]]
    residual: list[list[float]]
    timesteps: list[float]
    broken_rows: set[int]


def read(
    probes: Sequence[Tensor], residual: Tensor | None, output: Tensor | None, timesteps: Sequence[Tensor]
) -> Readout:
    """Bring a step's measurements to the host.

    Args:
        probes: of the policy, [r, sums] each.
        residual: of the stack residual, [r, sums].
        output: sum of the model's output for each row, [r].
        timesteps: each [1].
    """
    sums = [*probes, *([] if residual is None else [residual]), *([] if output is None else [output[:, None]])]
    parts = [tensor.flatten().float() for tensor in (*sums, *timesteps)]
    numbers = iter(torch.cat(parts).tolist() if parts else [])
    broken: set[int] = set()
    tables = [_table(numbers, tensor.shape, broken) for tensor in sums]
    found = tables[len(probes)] if residual is not None else []
    return Readout(tables[: len(probes)], found, list(numbers), broken)


def _table(numbers: Iterator[float], shape: torch.Size, broken: set[int]) -> list[list[float]]:
    """Take as many numbers as a tensor [r, sums] has; note the rows with one that is not finite."""
    table = []
    for row in range(shape[0]):
        values = [next(numbers) for _ in range(shape[1])]
        if not all(map(math.isfinite, values)):
            broken.add(row)
            values = [value if math.isfinite(value) else 0.0 for value in values]
        table.append(values)
    return table
