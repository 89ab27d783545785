"""Predictors × decisions × corrector at equal computed steps, from the rows of configs/scenes/frontier/crossed.py.

Settings must be named DECISION+PREDICTOR+CORRECTOR-STEPS. Each is held to its budget of computed steps (`budgets`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from opensora_adacache.benchmark.budgets import Held
from opensora_adacache.benchmark.frontier import EQUAL_STEPS, mean, read_held, signed
from opensora_adacache.benchmark.table_files import markdown_table
from opensora_adacache.metrics.bootstrap import bootstrap_interval

Combination = tuple[str, str, str]
"""Decision, predictor and corrector."""
REFERENCE: Combination = ("static", "reuse", "none")
"""What each part is compared with in the table of effects."""
_PARTS = ("decision", "predictor", "corrector")


@dataclass(frozen=True)
class Crossed:
    """All combinations with one number of computed steps."""

    steps: int
    combinations: Mapping[Combination, Held]

    def names(self, part: int) -> list[str]:
        """Return the decisions (0), predictors (1) or correctors (2) in the order of the config."""
        return list(dict.fromkeys(combination[part] for combination in self.combinations))


def crossed_lines(folder: Path) -> Iterator[str]:
    """Yield the Markdown lines of a benchmark.

    Raises:
        OSError: the results cannot be read.
        ValueError: no setting is named DECISION+PREDICTOR+CORRECTOR-STEPS.
    """
    frontier = read_held(folder)
    found: dict[int, dict[Combination, Held]] = defaultdict(dict)
    for name, held in frontier.held.items():
        combination, _, number = name.rpartition("-")
        parts = combination.split("+")
        if len(parts) == 3 and number.isdigit():
            found[int(number)][parts[0], parts[1], parts[2]] = held
    if not found:
        raise ValueError(
            f"'{folder}' has no settings named DECISION+PREDICTOR+CORRECTOR-STEPS; run "
            "configs/scenes/frontier/crossed.py"
        )
    yield f"{frontier.title}. Rows are predictors, columns decisions. Cells are mean PSNR in dB without and with the"
    yield "corrector; the best of a table is bold. A combination that computes more than half a step more or less than"
    yield "the others is marked with its number of computed steps."
    yield ""
    yield f"Made by `{frontier.record.command}`, prompt seed {frontier.record.prompt_seed}."
    if frontier.missing:
        yield f"Not made yet: {', '.join(frontier.missing)}."
    yield ""
    for steps, combinations in sorted(found.items(), reverse=True):
        yield from _table(Crossed(steps, combinations), frontier.num_steps)
    yield "## What each part adds"
    yield ""
    yield "Mean paired difference in dB over all combinations of the two other parts, with 95 % bootstrap intervals"
    yield "over prompts, each by itself."
    yield ""
    columns = ("part", "compared with", *(f"{steps} computed" for steps in sorted(found, reverse=True)))
    crossed = [Crossed(steps, combinations) for steps, combinations in sorted(found.items(), reverse=True)]
    yield from markdown_table(columns, _effects(crossed))
    yield ""


def _table(crossed: Crossed, num_steps: int) -> Iterator[str]:
    yield f"## {crossed.steps} of {num_steps} steps computed"
    yield ""
    decisions, predictors, correctors = (crossed.names(part) for part in range(3))
    quality = {key: mean(held, "psnr") for key, held in crossed.combinations.items()}
    best = max((value for value in quality.values() if not math.isnan(value)), default=math.nan)
    rows = [
        [
            predictor,
            *(" / ".join(_cell(crossed, quality, (d, predictor, c), best) for c in correctors) for d in decisions),
        ]
        for predictor in predictors
    ]
    yield from markdown_table(("predictor", *decisions), rows)
    yield ""


def _cell(crossed: Crossed, quality: Mapping[Combination, float], combination: Combination, best: float) -> str:
    value = quality.get(combination, math.nan)
    if math.isnan(value):
        return ""
    taken = mean(crossed.combinations[combination], "steps")
    text = f"**{value:.2f}**" if value == best else f"{value:.2f}"
    return text if abs(taken - crossed.steps) <= EQUAL_STEPS else f"{text} ({taken:.1f} steps)"


def _effects(crossed: Sequence[Crossed]) -> Iterator[Sequence[str]]:
    for part, title in enumerate(_PARTS):
        for name in crossed[0].names(part):
            if name != REFERENCE[part]:
                yield (f"{title} {name}", REFERENCE[part], *(_effect(one, part, name) for one in crossed))


def _effect(crossed: Crossed, part: int, name: str) -> str:
    """Return the mean difference that a part makes, with its interval."""
    per_prompt: dict[int, list[float]] = defaultdict(list)
    for combination, held in crossed.combinations.items():
        other = (*combination[:part], REFERENCE[part], *combination[part + 1 :])
        if combination[part] != name or other not in crossed.combinations:
            continue
        against = crossed.combinations[other]  # type: ignore[index]
        for key in held.keys:
            if key not in held.exact | against.exact:
                per_prompt[key[0]].append(held.expected(key, "psnr") - against.expected(key, "psnr"))
    if not per_prompt:
        return ""
    return signed(bootstrap_interval([fmean(values) for values in per_prompt.values()]))
