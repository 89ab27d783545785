"""Reads the measurements of a computed step from the device to the host in one synchronization and one message."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opensora_adacache.caching.team import Team


@dataclass(frozen=True)
class Readout:
    """Measurements of a computed step as numbers. Non-finite numbers become 0, and `broken_rows` lists their rows.

    Attributes:
        probes: measurements of the policy, [probes][r][sums], with the rows of all guidance branches.
        residual: measurements of the stack residual, [r][sums].
        timesteps: timesteps seen since the last readout.
        broken_rows: positions in 0..r−1 of the rows with non-finite measurements or output.
    """

    probes: list[list[list[float]]]
    residual: list[list[float]]
    timesteps: list[float]
    broken_rows: set[int]


def read(
    probes: Sequence[Tensor], residual: Tensor | None, output: Tensor | None, timesteps: Sequence[Tensor], team: Team
) -> Readout:
    """Read the measurements of a step to the host.

    Args:
        probes: measurements of the policy, [r, sums] each, of this process's tokens and rows.
        residual: measurements of the stack residual, [r, sums], of this process's tokens and rows.
        output: sum of the model's output for each row that computed, over whole videos and all guidance branches.
        timesteps: [1] each.
        team: adds the measurements up, in one message. Output and timesteps are the same in all its processes, so
            without measurements nothing is sent.
    """
    sums = [*probes, *([] if residual is None else [residual])]
    shared = [*([] if output is None else [output]), *timesteps]
    parts = [tensor.flatten().float() for tensor in (*sums, *shared)]
    numbers = torch.cat(parts) if parts else torch.empty(0)
    gathered = team.gather(numbers) if sums else [numbers.tolist()]
    broken: set[int] = set()
    branches = [iter(branch) for branch in team.add_parts(gathered)] if sums else []
    tables = [_table(branches, tensor.shape, broken) for tensor in sums]
    rest = iter(gathered[0][sum(tensor.numel() for tensor in sums) :])
    if output is not None:
        _table([rest], torch.Size((len(output), 1)), broken)
    found = tables[len(probes)] if residual is not None else []
    return Readout(tables[: len(probes)], found, list(rest), broken)


def _table(branches: Sequence[Iterator[float]], shape: torch.Size, broken: set[int]) -> list[list[float]]:
    """Take the numbers of a tensor [r, sums] from each branch and note the rows with non-finite ones."""
    table: list[list[float]] = []
    for branch in branches:
        for _ in range(shape[0]):
            values = [next(branch) for _ in range(shape[1])]
            if not all(map(math.isfinite, values)):
                broken.add(len(table))
                values = [value if math.isfinite(value) else 0.0 for value in values]
            table.append(values)
    return table
