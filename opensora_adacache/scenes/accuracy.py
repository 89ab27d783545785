"""Formats the rows of an evaluation as Markdown tables: accuracy by attribute, kind of motion and shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opensora_adacache.metrics.bootstrap import bootstrap_interval
from opensora_adacache.scenes.words import ATTRIBUTES, KINDS, SHAPES

Row = dict[str, Any]
_BY_KIND = ("shape", "number", "kind", "direction", "speed")


def report(rows: Sequence[Row]) -> str:
    """Return all tables of an evaluation."""
    return "\n\n".join([accuracy_table(rows), kind_table(rows), outline_table(rows)])


def failure_lines(rows: Sequence[Row]) -> list[str]:
    """Return a list of the clips that differ from their prompts: in what, and what was seen instead."""
    lines = []
    for row in rows:
        wrong = [name for name in ATTRIBUTES if row["right"][name] < row["asked"][name]]
        if wrong:
            lines.append(f"- {row['prompt']}: {', '.join(wrong)} ({row['seen']} was seen)")
    return ["Clips that differ from their prompts:", "", *lines] if lines else ["No clip differs from its prompt."]


def accuracy_table(rows: Sequence[Row]) -> str:
    """Return the fraction of correct answers per attribute over all clips; colour and shape count once per object."""
    lines = [f"| attribute | right, {len(rows)} clips | 95 % interval | asked |", "| --- | --- | --- | --- |"]
    for name in ATTRIBUTES:
        answers, clips = _answers(rows, name)
        if answers:
            lines.append(f"| {name} | {_fraction(answers, clips)} | {len(answers)} |")
    return "\n".join(lines)


def kind_table(rows: Sequence[Row]) -> str:
    """Return the fraction of correct answers by kind of motion and by number of objects."""
    lines = [f"| clips | {' | '.join(_BY_KIND)} | clips |", "| --- |" + " --- |" * (len(_BY_KIND) + 1)]
    groups = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    names = {1: "1 object", 2: "2 objects", 3: "3 objects"}
    groups |= {name: [row for row in rows if row["objects"] == count] for count, name in names.items()}
    for title, members in groups.items():
        if members:
            cells = [_mean(_answers(members, name)[0]) for name in _BY_KIND]
            lines.append(f"| {title} | {' | '.join(cells)} | {len(members)} |")
    return "\n".join(lines)


def outline_table(rows: Sequence[Row]) -> str:
    """Return how much the outlines differ from the requested shapes.

    *Error* is 1 minus the intersection over union with the drawn shape, *kept* the fraction of frames in which no other
    shape fits better; see `Outline`.
    """
    lines = ["| shape | error | 95 % interval | kept | objects |", "| --- | --- | --- | --- | --- |"]
    found = [(number, outline) for number, row in enumerate(rows) for outline in row["outlines"]]
    for title in ("all", *SHAPES):
        chosen = [(number, outline) for number, outline in found if title in ("all", outline["shape"])]
        if chosen:
            clips = [number for number, _ in chosen]
            error = _interval([outline["error"] for _, outline in chosen], clips)
            lines.append(f"| {title} | {error} | {_mean([outline['kept'] for _, outline in chosen])} | {len(chosen)} |")
    circles = [(number, outline["roundness"]) for number, outline in found if outline["roundness"] is not None]
    if circles:
        error = _interval([value for _, value in circles], [number for number, _ in circles])
        lines.append(f"| circle: deviation of the radius | {error} |  | {len(circles)} |")
    return "\n".join(lines)


def _answers(rows: Sequence[Row], name: str) -> tuple[list[float], list[int]]:
    """Return 1 or 0 for each question about an attribute, and the index of its clip."""
    answers: list[float] = []
    clips: list[int] = []
    for number, row in enumerate(rows):
        asked, right = row["asked"][name], row["right"][name]
        answers += [1.0] * right + [0.0] * (asked - right)
        clips += [number] * asked
    return answers, clips


def _mean(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f} %" if values else ""


def _fraction(values: Sequence[float], clips: Sequence[int]) -> str:
    found = bootstrap_interval(values, clips)
    return f"{100 * found.mean:.1f} % | {_range(found.low, found.high, 100, 1)}"


def _interval(values: Sequence[float], clips: Sequence[int]) -> str:
    found = bootstrap_interval(values, clips)
    return f"{found.mean:.3f} | {_range(found.low, found.high, 1, 3)}"


def _range(low: float | None, high: float | None, factor: float, digits: int) -> str:
    return "" if low is None or high is None else f"{factor * low:.{digits}f} to {factor * high:.{digits}f}"
