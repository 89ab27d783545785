"""A schedule as a strip of characters, one for each step or for a few of them."""

from __future__ import annotations

from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "._-~=+*#"


def strip(computed: Sequence[float], num_steps: int, width: int, levels: str = LEVELS) -> str:
    """Return the steps until now as characters, the higher the more of them computed; no more than `width` for a run.

    Args:
        computed: for each step until now, the fraction of videos that computed.
        num_steps: number of steps of the run.
        width: largest number of characters of the whole run. Each stands for the same number of steps, rounded.
        levels: characters from reused to computed.

    >>> strip([1, 1, 0, 0.5], 6, 40)
    '██▁▅'
    >>> strip([1, 1, 0, 0], 6, 3, ASCII_LEVELS)
    '#.'
    """
    cells = min(num_steps, width)
    ends = [num_steps * (cell + 1) // cells for cell in range(cells)]
    parts = [computed[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    means = [sum(part) / len(part) for part in parts if part]
    return "".join(levels[round(mean * (len(levels) - 1) + 1e-9)] for mean in means)
